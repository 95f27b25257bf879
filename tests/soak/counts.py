"""What a server holds when nobody asks: exact counts, the same before a run and after it.

Knows no fault. Read from outside: from `/proc`, and from what the server says of itself.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.soak.asks import plain_ask
from tests.soak.house import WARDEN, House

_QUIET_S = 15.0  # heartbeats come every second, and connections are closed soon
_POOL_THREADS = 6  # of asyncio, made as they are needed and kept: on two cores
_PAUSE_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of the parent and its one model."""

    requests: int  # as `/health` counts them
    running: int
    queued: int
    waiting: int
    in_line: int
    busy_slots: int
    used_cells: int
    descriptors: Counter[str]  # by what they lead to
    threads: int
    children: int

    def leaked_since(self, before: Counts) -> list[str]:
        """What is more than it was, or should be nothing and is not."""
        found = []
        for each in fields(self):
            mine, its = getattr(self, each.name), getattr(before, each.name)
            if each.name == "descriptors":
                if more := mine - its:
                    found.append(f"descriptors: {dict(more)} more")
            elif each.name == "threads":
                if mine > its + _POOL_THREADS:
                    found.append(f"threads: {mine}, and were {its}")
            elif each.name == "children":
                if mine != its:
                    found.append(f"children: {mine}, and were {its}")
            elif mine:
                found.append(f"{each.name}: {mine}")
        return found


def quiet_counts(house: House, before: Counts | None = None) -> Counts:
    """As soon as nothing is left to be done, or what is left after a while. Prefixes that
    the cache keeps have to be gone, too: what is left then belongs to nobody.
    """
    deadline_s = time.monotonic() + house.prefix_ttl_s + _QUIET_S
    while True:
        _step(house)
        time.sleep(_PAUSE_S)
        counts = _counts(house)
        if not counts.leaked_since(before or counts) or time.monotonic() > deadline_s:
            return counts


def requests_left(house: House, known: int) -> int:
    """In flight while nobody asks: as soon as there are no more than are known, or what is
    left after a while.
    """
    deadline_s = time.monotonic() + _QUIET_S
    while True:
        count = int(house.asks("/health")["num_requests"])
        if count <= known or time.monotonic() > deadline_s:
            return count
        time.sleep(_PAUSE_S)


def _step(house: House) -> None:
    """Prefixes that nobody used for long go when the engine next admits somebody."""
    ask = plain_ask()
    headers = {"authorization": f"Bearer {house.keys[WARDEN]}"}
    httpx.post(f"{house.url}{ask.path}", json=ask.body, headers=headers, timeout=60)
    time.sleep(1.0)  # until the next heartbeat


def _counts(house: House) -> Counts:
    health, [model] = house.asks("/health"), house.asks("/ps")["models"]
    process = psutil.Process(house.pid)
    return Counts(
        requests=health["num_requests"],
        running=model["num_running"],
        queued=model["num_queued"],
        waiting=model["num_waiting"],
        in_line=int(house.metric("appliance_line_requests")),
        busy_slots=sum(slot["is_processing"] for slot in house.asks("/slots")),
        used_cells=int(house.metric("appliance_kv_cells_used")),
        descriptors=_descriptors(house.pid),
        threads=process.num_threads(),
        children=len(process.children()),
    )


def _descriptors(pid: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = path.readlink()
        except FileNotFoundError:
            continue  # closed meanwhile
        # sockets and pipes have numbers
        found[target.name.split(":[")[0]] += 1
    return found


def resident_bytes(house: House) -> int:
    found: Any = psutil.Process(house.pid).memory_info().rss
    return int(found)
