"""Kills the server again and again, at any moment: while it starts, and while it answers and
writes. What was promised is looked for after each kill, and everybody is served after all.

Usage: python -m tests.soak.kills 200 [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from appliance.database.files import opened
from appliance.gateway.usage.tables import FILE_NAME, MIGRATIONS, read_groups
from tests.soak.clients import client_of, load
from tests.soak.house import BY_DAY, House, exit_on_sigterm, house_in
from tests.soak.judging import Ending
from tests.soak.ledger import Ledger

_NUM_CLIENTS = 6
_NUM_CHECKED = 4  # keys, after each start; all of them at the end
_SHARE_AT_START = 0.25  # of kills
_LONGEST_START_S = 4.0
_LONGEST_S = 4.0  # of load before a kill
_ANSWER_S = 30.0
_WRITTEN_S = 1.5  # promised is a second; this machine has other things to do
_LOST = ("was damaged", "Traceback (most recent call last)", "could not be written")


@dataclass
class Kills:
    """What came of them; `findings` is what should not have been."""

    num_at_start: int = 0
    num_serving: int = 0
    num_answered: int = 0
    num_keys: int = 0
    num_prefixes: int = 0  # files, when all was over
    start_s: list[float] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


class Killing:
    """`kills` is what has come of them by now: a run may be ended early."""

    def __init__(self, house: House, seed: int) -> None:
        self._house = house
        self._rng = random.Random(seed)
        self._number = 0  # of the kill
        self.kills = Kills()
        self._written: dict[str, int] = {}  # requests whose usage was on disk, by key

    async def run(self, count: int) -> Kills:
        """So often, and once more it must come up."""
        for self._number in range(count):
            if self._rng.random() < _SHARE_AT_START:
                await self._kill_at_start()
            else:
                await self._kill_at_work()
        await self._start()
        await self._check_keys(list(self._house.keys))
        code = await asyncio.to_thread(self._house.stop)
        if code:
            self._found(f"it did not stop in good order: {code}")
        self._check_log()
        self._check_written()
        self.kills.num_keys = len(self._house.keys)
        files = self._house.state.glob("prefixes/*/*.prefix")
        self.kills.num_prefixes = len(list(files))
        return self.kills

    async def _kill_at_start(self) -> None:
        self.kills.num_at_start += 1
        self._house.begin()
        await asyncio.sleep(self._rng.uniform(0, _LONGEST_START_S))
        await self._kill()

    async def _kill_at_work(self) -> None:
        """Under load of keys that nobody else ever uses."""
        self.kills.num_serving += 1
        house, rng = self._house, self._rng
        names = [self._create_key(f"user-{self._number}-{at}") for at in range(2)]
        await self._start()
        await self._check_keys(rng.sample(list(house.keys), _NUM_CHECKED))
        ledger = Ledger()
        ledger.begin()
        keys = [house.keys[name] for name in names]
        seed = f"{self._number}-{rng.random()}"
        async with load(house.url, keys, ledger, num_clients=_NUM_CLIENTS, seed=seed):
            await asyncio.sleep(rng.uniform(0, _LONGEST_S) / 2)
            # another process writes to the file while the server does
            await asyncio.to_thread(self._create_key, f"guest-{self._number}")
            await asyncio.sleep(rng.uniform(0, _LONGEST_S) / 2)
            ledger.begin("kill", is_kill=True)
            killed_s = time.monotonic()
            await self._kill()
        self._note(ledger, names, killed_s)

    def _create_key(self, name: str) -> str:
        self._house.keys[name] = self._house.create_key(name, BY_DAY)
        return name

    async def _start(self) -> None:
        began_s = time.monotonic()
        try:
            await asyncio.to_thread(self._house.start)
        except AssertionError as error:
            self._found(f"it did not start: {error}")
            raise
        self.kills.start_s.append(time.monotonic() - began_s)

    async def _kill(self) -> None:
        left = await asyncio.to_thread(self._house.kill)
        if left:
            self._found(f"left behind: {left}")
        self._check_log()

    # --- what was promised ------------------------------------------------------------

    def _note(self, ledger: Ledger, names: list[str], killed_s: float) -> None:
        answered = [each for each in ledger.entries if each.verdict.ending is Ending.ANSWERED]
        self.kills.num_answered += len(answered)
        promised = sum(
            each.num_choices for each in answered if each.ended_s < killed_s - _WRITTEN_S
        )
        written = {name: count for name, count in self._read_written().items() if name in names}
        if sum(written.values()) < promised:
            self._found(f"usage: {written}, but {promised} requests were answered in time")
        self._written.update(written)
        self.kills.findings += [f"kill {self._number}: {each}" for each in ledger.findings]

    def _check_written(self) -> None:
        """What was on disk once stays there."""
        written = self._read_written()
        for name, count in self._written.items():
            if written.get(name) != count:
                self._found(f"usage of {name}: {written.get(name)}, and was {count}")

    def _read_written(self) -> dict[str, int]:
        with opened(self._house.state / FILE_NAME, MIGRATIONS) as connection:
            groups = read_groups(connection, ("key",), 0, None)
        return {group.names["key"]: group.counts.requests - group.counts.failed for group in groups}

    async def _check_keys(self, names: list[str]) -> None:
        """By what uses nothing."""
        for name in names:
            async with client_of(self._house.url, self._house.keys[name]) as http:
                response = await http.get("/v1/models", timeout=_ANSWER_S)
            if response.status_code != 200:
                self._found(f"key {name}: {response.status_code} {response.text}")

    def _check_log(self) -> None:
        for line in self._house.server.lines:
            if any(words in line for words in _LOST):
                self._found(line)

    def _found(self, what: str) -> None:
        self.kills.findings.append(f"kill {self._number}: {what}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills")
    parser.add_argument("count", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, house_in(Path(folder)) as house:
        killing = Killing(house, given.seed)
        try:
            asyncio.run(killing.run(given.count))
        finally:
            print_kills(killing.kills)
    return len(killing.kills.findings) > 0


def print_kills(kills: Kills) -> None:
    print(
        f"{kills.num_at_start + kills.num_serving} kills: {kills.num_at_start} while it started, "
        f"{kills.num_serving} while it served; {kills.num_answered} requests were answered, "
        f"{kills.num_keys} keys are tried, {kills.num_prefixes} prefixes are on disk; it started "
        f"in {max(kills.start_s, default=0):.1f} s at most"
    )
    for finding in kills.findings:
        print(f"FOUND: {finding}")
    print(f"{len(kills.findings)} findings")


if __name__ == "__main__":
    sys.exit(main())
