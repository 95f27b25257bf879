"""Keys, quotas and usage as a door has them: told by the fleet's one owner, and told to it,
once a second.

Knows no request and no Ray. What a caller takes at one door counts at the others a second or
two later; while the owner is away, each door goes on with what it knows.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Protocol

from appliance.errors import StorageFailed, Unavailable
from appliance.fleet.serving.owner import DoorReport, OwnerNews, UsageRow
from appliance.fleet.serving.shared_counts import Elsewhere, Total
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import NO_LIMITS
from appliance.gateway.accounts.key_file import FileKeys
from appliance.gateway.accounts.keyring import Keyring
from appliance.gateway.accounts.quotas import Quotas
from appliance.gateway.usage.counts import Counts
from appliance.gateway.usage.keys import KeyUse
from appliance.gateway.usage.query import UsageQuery
from appliance.gateway.usage.report import UsageReport

_log = logging.getLogger(__name__)
INTERVAL_S = 1.0
_MAX_KEPT = 10_000  # rows of usage, while the owner is away


class OwnerAway(Unavailable):
    """The owner cannot be asked now."""


class OwnerCalls(Protocol):
    """The way to the owner. Everything raises `OwnerAway`."""

    async def exchange(self, report: DoorReport) -> OwnerNews: ...

    async def usage_report(self, query: UsageQuery) -> UsageReport: ...

    async def key_uses(self, now_s: float) -> dict[str, KeyUse]: ...


class OwnersUsage:
    """Implements `UsageRows`: of the whole fleet."""

    def __init__(self, owner: OwnerCalls) -> None:
        self._owner = owner
        self.waiting: list[UsageRow] = []
        self._num_lost = 0

    @property
    def num_lost(self) -> int:
        return self._num_lost

    def add(self, now_s: int, key: str, model: str, counts: Counts) -> None:
        if len(self.waiting) >= _MAX_KEPT:
            self._num_lost += 1
            return
        self.waiting.append(UsageRow(now_s, key, model, counts))

    async def report(self, query: UsageQuery) -> UsageReport:
        try:
            return await self._owner.usage_report(query)
        except OwnerAway as error:
            raise StorageFailed(f"Usage cannot be read: {error.message}") from error

    async def key_uses(self, now_s: float) -> dict[str, KeyUse]:
        try:
            return await self._owner.key_uses(now_s)
        except OwnerAway as error:
            raise StorageFailed(f"Usage cannot be read: {error.message}") from error

    async def close(self) -> None:
        """The last rows went with the last exchange."""


class DoorAccounts:
    """`admission`, `quotas` and `usage` of one door."""

    def __init__(self, owner: OwnerCalls) -> None:
        self._owner = owner
        self._name = uuid.uuid4().hex
        self._serial = 0
        self._unsent: DoorReport | None = None  # what the owner may have, or not
        self._day_tokens: list[tuple[str, int, int]] = []
        self._elsewhere = Elsewhere()
        self._keyring = Keyring()
        self.admission = Admission(keyring=self._keyring)
        self.quotas = Quotas(on_day_tokens=lambda *used: self._day_tokens.append(used))
        self.usage = OwnersUsage(owner)
        self._is_failing = False

    async def begin(self) -> None:
        """Returns when the keys are known: before, nobody is let in."""
        while True:
            try:
                await self.exchange()
            except OwnerAway as error:
                _log.info("waiting for the owner of the keys: %s", error.message)
                await asyncio.sleep(INTERVAL_S)
            else:
                return

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self.exchange()
            except OwnerAway as error:
                if not self._is_failing:
                    _log.error("keys and counts stand as they are for now: %s", error.message)
                self._is_failing = True
            else:
                self._is_failing = False

    async def exchange(self) -> None:
        """Raises `OwnerAway`; then everything is told the next time."""
        report = self._report()
        settled = self.quotas.settled()
        self._unsent = report
        news = await self._owner.exchange(report)
        self._unsent = None
        self._take_over(news, settled)

    def _report(self) -> DoorReport:
        """A report that failed is sent again, with its serial number, and what came since
        waits: the owner may have written it down.
        """
        totals = {name: Total(*used) for name, used in self.quotas.used_here().items()}
        if (unsent := self._unsent) is not None:
            return DoorReport(
                door=unsent.door,
                totals=totals,
                day_tokens=unsent.day_tokens,
                usage=unsent.usage,
                serial=unsent.serial,
            )
        day_tokens, self._day_tokens = self._day_tokens, []
        usage, self.usage.waiting = self.usage.waiting, []
        self._serial += 1
        return DoorReport(
            door=self._name,
            totals=totals,
            day_tokens=day_tokens,
            usage=usage,
            serial=self._serial,
        )

    def _take_over(self, news: OwnerNews, settled: Mapping[str, int]) -> None:
        self._keyring.replace(news.keys)
        self.admission.take(FileKeys.of_digests(news.file_keys))
        limits = {record.name: record.terms.limits for record in news.keys}
        for name, total in self._elsewhere.news(news.epoch, news.elsewhere).items():
            self.quotas.take_elsewhere(
                name, limits.get(name, NO_LIMITS), total.taken, total.num_running
            )
        self.quotas.set_day_tokens(news.day, news.day_tokens, settled)
