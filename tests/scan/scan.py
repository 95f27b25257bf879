"""The whole scan of one server, and of two of our own.

Knows the order, and what is looked at beside the responses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from appliance.api.transport.guards import OPEN_PATHS
from tests.scan.connections import scan_floods, scan_framings, scan_slow
from tests.scan.house import TIMEOUT_S, Scanned, keyed, unlocked
from tests.scan.others import scan_others_things
from tests.scan.requests import Keys, Request, Who
from tests.scan.routes import bodies, parameters, routes_by_headers, some, targets
from tests.scan.rules import Rules
from tests.scan.scanner import Findings, Scanner
from tests.scan.wire import PATIENCE_S, Address

# What a parent may take for a while beyond what it had: the floods send more than this.
MAX_GROWTH_BYTES = 96 << 20
MAX_BODY_BYTES = 1 << 20  # at least what the embedded model's server takes
_SAMPLE_S = 0.02
_ACCEPTED = (b"*/*", b"text/html", b"application/json")
_CALM_FILES = 4  # descriptors that come and go, such as of SQLite


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How many of each kind; None: all. `part` of so many parts of the routes: each takes
    its turn.
    """

    part: tuple[int, int] = (1, 1)
    routes: int | None = None
    parameters: int | None = None
    bodies: int | None = None
    seed: int = 24


@dataclass(frozen=True)
class Report:
    findings: Findings
    growth_bytes: int  # of a server's process, at most


async def scan(
    address: Address,
    keys: Keys,
    rules: Rules,
    extent: Extent,
    *,
    timeout_s: float,
    max_body_bytes: int,
) -> Findings:
    scanner = Scanner(address, keys, rules)
    await _look_at_open_paths(scanner)
    who = (Who.NOBODY, Who.GUESSER, *keys.holders) if rules.needs_key else (Who.NOBODY,)
    seed = extent.seed
    if {Who.HOLDER, Who.OTHER} <= {*keys.holders}:
        await scan_others_things(scanner)
    number, num_parts = extent.part
    routes = routes_by_headers(who)[number - 1 :: num_parts]
    await scanner.ask_all(some(routes, extent.routes, seed))
    await scanner.ask_all(some([*parameters(who)], extent.parameters, seed))
    await scanner.ask_all(some([*bodies(who)], extent.bodies, seed))
    await scanner.ask_all(targets(who))
    await scan_framings(scanner)
    await scan_slow(scanner, timeout_s)
    await scan_floods(scanner, max_body_bytes)
    return scanner.findings


async def scan_own(home: Path, folder: Path, extent: Extent) -> Report:
    """Of a server with keys, and of one without, both on the embedded model. `home` has it,
    or gets it.
    """
    findings = Findings()
    growth_bytes = 0
    for name, open_house in (("keyed", keyed), ("unlocked", unlocked)):
        with open_house(home, folder / name) as scanned:
            found, grown_bytes = await _scan_own(scanned, extent)
        findings.num_requests += found.num_requests
        findings.statuses += found.statuses
        findings.broken += [f"{name}: {each}" for each in found.broken]
        growth_bytes = max(growth_bytes, grown_bytes)
    return Report(findings, growth_bytes)


async def _scan_own(scanned: Scanned, extent: Extent) -> tuple[Findings, int]:
    process = psutil.Process(scanned.server.process.pid)
    num_files = process.num_fds()
    async with _watched(process) as memory:
        findings = await scan(
            Address.of(scanned.server.url),
            scanned.keys,
            scanned.rules,
            extent,
            timeout_s=TIMEOUT_S,
            max_body_bytes=MAX_BODY_BYTES,
        )
    if memory.growth_bytes > MAX_GROWTH_BYTES:
        findings.add("memory", f"grew by {memory.growth_bytes >> 20} MiB")
    if not await _eventually_calm(process, num_files):
        findings.add("descriptors", f"{process.num_fds()} are open; {num_files} were before")
    if scanned.server.health()["status"] != "ok":
        findings.add("health", f"{scanned.server.health()}")
    if "Traceback" in scanned.server.log:
        findings.add("log", scanned.server.log[scanned.server.log.index("Traceback") :][:4000])
    return findings, memory.growth_bytes


@dataclass
class _Memory:
    before_bytes: int
    most_bytes: int

    @property
    def growth_bytes(self) -> int:
        return self.most_bytes - self.before_bytes


@contextlib.asynccontextmanager
async def _watched(process: psutil.Process) -> AsyncIterator[_Memory]:
    before_bytes: int = process.memory_info().rss
    memory = _Memory(before_bytes, before_bytes)

    async def watch() -> None:
        while True:
            memory.most_bytes = max(memory.most_bytes, process.memory_info().rss)
            await asyncio.sleep(_SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        yield memory
    finally:
        watching.cancel()


async def _eventually_calm(process: psutil.Process, num_files: int) -> bool:
    """Whether the connections are closed, once their time is over."""
    for _ in range(int(PATIENCE_S / _SAMPLE_S)):
        if process.num_fds() <= num_files + _CALM_FILES:
            return True
        await asyncio.sleep(_SAMPLE_S)
    return False


async def _look_at_open_paths(scanner: Scanner) -> None:
    """What nobody may see there, and nowhere else. A finding where it is too much."""
    requests = [
        Request(
            method=b"GET",
            target=path.encode(),
            headers=(b"Accept: " + accepted,),
            is_at_open_path=True,
        )
        for path in OPEN_PATHS
        for accepted in _ACCEPTED
    ]
    bodies: dict[Request, bytes] = {}
    rules, scanner.rules = scanner.rules, replace(scanner.rules, needs_key=False)
    for request in requests:
        if (response := await scanner.ask(request)) is not None:
            bodies[request] = response.body
    scanner.rules = replace(rules, open_bodies=frozenset(bodies.values()))
    if not rules.needs_key:
        return
    for request, body in bodies.items():
        if request.target == b"/health" and json.loads(body).keys() != {"status"}:
            scanner.findings.add(request, f"tells nobody {body!r}")
