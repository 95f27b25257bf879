"""Writes each request's counts down at its end, and reads them again.

Knows no price and no HTTP. The event loop never waits for the disk: what a request used is
written within a second, so that a process that is killed loses no more.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

import msgspec

from appliance.gateway.telemetry.summary import RequestSummary
from appliance.gateway.usage.counts import Counts, counts_of, is_whole
from appliance.gateway.usage.keys import KeyUse
from appliance.gateway.usage.power import FixedPower, Power
from appliance.gateway.usage.query import UsageQuery
from appliance.gateway.usage.report import FREE, Prices, UsageReport
from appliance.gateway.usage.rows import UsageRows
from appliance.protocol.events import Event, Finished
from appliance.protocol.questions import Question
from appliance.protocol.requests import GenerateRequest

_MAX_CUT_OFF = 512  # answers whose clients may come back, as far as we remember


class UsageLog:
    """Listens to what becomes of each request; `wall_clock` is in seconds since the epoch."""

    def __init__(
        self,
        rows: UsageRows,
        *,
        prices: Prices = FREE,
        power: Power | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.prices = prices  # unless somebody asks with others
        self.power: Power = power or FixedPower(None)
        self._rows = rows
        self._wall_clock = wall_clock
        self._cut_off: OrderedDict[str, Counts] = OrderedDict()  # by the id to resume by

    @property
    def num_lost(self) -> int:
        """Requests that could not be written down."""
        return self._rows.num_lost

    def request_ended(self, summary: RequestSummary, /) -> None:
        if isinstance(summary.request, Question):
            return
        counts = counts_of(summary)
        if isinstance(summary.request, GenerateRequest) and summary.request.resume_id:
            counts = self._more_than_before(
                summary.request.resume_id, counts, is_last=is_whole(summary)
            )
        if (watts := self.power.watts) is not None:
            counts.metered_s = counts.timed_s
            counts.energy_j = counts.timed_s * watts
        self._rows.add(int(self._wall_clock()), summary.caller_id, summary.model_id, counts)

    def _more_than_before(self, resume_id: str, counts: Counts, *, is_last: bool) -> Counts:
        """An answer that is resumed is one request: what its first parts were counted as is
        taken off, or where it is cut off again goes with it. Whether it failed, its last part
        says.
        """
        before = self._cut_off.pop(resume_id, None)
        if is_last:
            return counts if before is None else counts.without(before)
        if before is not None:
            counts.requests, counts.failed = 0, counts.failed - before.failed
        self._cut_off[resume_id] = counts.with_(before or Counts())
        if len(self._cut_off) > _MAX_CUT_OFF:
            self._cut_off.popitem(last=False)
        return counts

    async def report(self, query: UsageQuery) -> UsageReport:
        """Of everything until now. Raises `StorageFailed`."""
        return await self._rows.report(query)

    async def key_uses(self) -> dict[str, KeyUse]:
        """Of each key that was ever used. Raises `StorageFailed`."""
        return await self._rows.key_uses(self._wall_clock())

    async def close(self) -> None:
        """Returns when everything is written."""
        await self._rows.close()


def with_energy(usage: UsageLog | None, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """The same events, the last one of an answer with the energy that it took, where the
    machine's power is known.
    """
    if usage is None or usage.power.watts is None:
        return events
    return _with_energy(usage.power, events)


async def _with_energy(power: Power, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    async for event in events:
        watts = power.watts if isinstance(event, Finished) else None
        if isinstance(event, Finished) and event.stages is not None and watts is not None:
            energy_j = event.stages.shares.total_ms / 1000 * watts
            usage = msgspec.structs.replace(event.usage, energy_j=energy_j)
            yield msgspec.structs.replace(event, usage=usage)
        else:
            yield event
