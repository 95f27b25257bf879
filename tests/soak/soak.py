"""One run: load without pause, faults one after the other, and a calm phase behind each, in
which everybody is served.

Knows no fault and no format.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
)
from dataclasses import dataclass, field

from tests.soak.asks import long_ask, plain_ask
from tests.soak.clients import Load, asked, client_of, load
from tests.soak.counts import Counts, quiet_counts, requests_left, resident_bytes
from tests.soak.faults.fault import Fault
from tests.soak.house import WARDEN, House
from tests.soak.judging import Ending
from tests.soak.ledger import Ledger

MAX_GROWTH = 0.05  # of the parent's memory, from the first calm phase to the last
_SAMPLE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`seconds`: of faults and calm phases while one server runs, each fault once at the
    least; those for which it is stopped come before.
    """

    seconds: float
    calm_s: float
    faults: Sequence[Fault]
    seed: int = 0
    num_clients: int = 10
    longest_hold_s: float = math.inf  # of each fault, where time is short
    pauses: bool = True  # the load, after each calm phase, to see what is left in flight


@dataclass(frozen=True)
class Calm:
    """A phase in which nothing was wrong."""

    behind: str  # the fault
    back_s: float  # until everybody was served again
    tokens_per_s: float
    resident_bytes: int  # of the parent: the least that was seen


@dataclass
class Report:
    """`findings` is what should not have been."""

    ledger: Ledger
    not_tried: dict[str, str]
    calms: list[Calm] = field(default_factory=list)  # of the one server
    failures: list[str] = field(default_factory=list)
    before: Counts | None = None
    after: Counts | None = None

    @property
    def growth(self) -> float:
        if not self.calms:
            return 0.0
        first, last = self.calms[0].resident_bytes, self.calms[-1].resident_bytes
        return last / first - 1

    @property
    def findings(self) -> list[str]:
        found = [*self.failures, *self.ledger.findings]
        if self.before is not None and self.after is not None:
            found += [f"left behind: {each}" for each in self.after.leaked_since(self.before)]
        if self.growth > MAX_GROWTH:
            found.append(f"the parent grew by {self.growth:.1%}")
        return found


class Soak:
    """`report` is what has been found by now: a run may be ended early."""

    def __init__(self, house: House, plan: Plan) -> None:
        self._house = house
        self._plan = plan
        self._rng = random.Random(plan.seed)
        self._ledger = Ledger()
        self._num_left = 0  # requests in flight that are nobody's
        reasons = {fault.name: fault.why_not(house) for fault in plan.faults}
        self.report = Report(
            self._ledger, {name: why for name, why in reasons.items() if why is not None}
        )
        self._faults = [fault for fault in plan.faults if reasons[fault.name] is None]

    async def run(self) -> Report:
        """Starts the server, and leaves it running."""
        house, report = self._house, self.report
        await asyncio.to_thread(house.start)
        restarts = [fault for fault in self._faults if fault.is_restart]
        async with self._load("restarts") as clients:
            await self._calm("", 0.0, clients)
            for fault in restarts:
                await self._go_through(fault, clients)
        report.before = await asyncio.to_thread(quiet_counts, house)
        report.calms.clear()
        async with self._load("faults") as clients:
            self._ledger.begin()
            await self._calm("", 0.0, clients)
            for fault in self._order([each for each in self._faults if not each.is_restart]):
                await self._go_through(fault, clients)
        report.after = await asyncio.to_thread(quiet_counts, house, report.before)
        report.failures += _complaints(house)
        return report

    def _order(self, faults: Sequence[Fault]) -> Iterator[Fault]:
        """All of them, in another order each time, as long as there is time."""
        end_s = time.monotonic() + self._plan.seconds
        yield from self._rng.sample(faults, len(faults))
        while faults:
            for fault in self._rng.sample(faults, len(faults)):
                if time.monotonic() + fault.hold_s + self._plan.calm_s > end_s:
                    return
                yield fault

    def _load(self, name: str) -> AbstractAsyncContextManager[Load]:
        house, plan = self._house, self._plan
        seed = f"{plan.seed}-{name}"
        keys = [key for name, key in house.keys.items() if name != WARDEN]
        return load(house.url, keys, self._ledger, num_clients=plan.num_clients, seed=seed)

    async def _go_through(self, fault: Fault, clients: Load) -> None:
        self._ledger.begin(fault.name, is_restart=fault.is_restart)
        try:
            async with _in_thread(fault.befall(self._house, self._rng)):
                await asyncio.sleep(min(fault.hold_s, self._plan.longest_hold_s))
        except AssertionError as error:
            self.report.failures.append(f"{fault.name}: {error}")
            if self._house.has_ended:
                await asyncio.to_thread(self._house.start)
        back_s = await self._back(fault)
        self._ledger.begin()
        await self._calm(fault.name, back_s, clients)

    async def _back(self, fault: Fault) -> float:
        """Returns after how long all were served again, long prompts too."""
        began_s = time.monotonic()
        async with client_of(self._house.url, self._house.keys[WARDEN]) as http:
            while True:
                asks = (plain_ask(), long_ask(self._rng))
                endings = [(await asked(http, ask)).verdict for ask in asks]
                took_s = time.monotonic() - began_s
                if all(verdict.ending is Ending.ANSWERED for verdict in endings):
                    break
                if took_s > fault.back_s:
                    self.report.failures.append(
                        f"{fault.name}: not back after {took_s:.0f} s: {endings}"
                    )
                    break
                await asyncio.sleep(_SAMPLE_S)
        return took_s

    async def _calm(self, behind: str, back_s: float, clients: Load) -> None:
        began_s = time.monotonic()
        num_tokens = await self._num_tokens()
        least_bytes = resident_bytes(self._house)
        while time.monotonic() - began_s < self._plan.calm_s:
            await asyncio.sleep(_SAMPLE_S)
            least_bytes = min(least_bytes, resident_bytes(self._house))
        num_new = await self._num_tokens() - num_tokens
        per_s = num_new / (time.monotonic() - began_s)
        self.report.calms.append(Calm(behind, back_s, per_s, least_bytes))
        if self._plan.pauses:
            async with clients.paused():
                await self._count_left(behind)

    async def _count_left(self, behind: str) -> None:
        """Once for each request that is in flight although nobody asks."""
        known = self._num_left
        self._num_left = await asyncio.to_thread(requests_left, self._house, known)
        if (num_new := self._num_left - known) > 0:
            self.report.failures.append(f"in flight behind {behind or 'nothing'}: {num_new} more")

    async def _num_tokens(self) -> float:
        name = "appliance_completion_tokens_total"
        return await asyncio.to_thread(self._house.metric, name)


@asynccontextmanager
async def _in_thread(context: AbstractContextManager[None]) -> AsyncIterator[None]:
    """Its beginning and its end, which block."""
    await asyncio.to_thread(context.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def _complaints(house: House) -> list[str]:
    """Lines of all logs that tell of what nobody foresaw."""
    lines = [*house.lines, *house.server.lines]
    return [
        "the log has a traceback: " + " | ".join(lines[max(0, at - 2) : at + 12])
        for at, line in enumerate(lines)
        if "Traceback (most recent call last)" in line
    ]
