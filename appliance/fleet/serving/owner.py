"""The one owner of a fleet's keys, counts and usage, on the node of its head. Knows no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.fleet.serving.shared_counts import SharedCounts, Total
from appliance.gateway.accounts.key_records import FILE_NAME, KeyRecord
from appliance.gateway.accounts.key_store import KeyStore
from appliance.gateway.accounts.used import Clocks
from appliance.gateway.usage.counts import Counts
from appliance.gateway.usage.keys import KeyUse
from appliance.gateway.usage.query import UsageQuery
from appliance.gateway.usage.report import UsageReport
from appliance.gateway.usage.rows import UsageFile


@dataclass(frozen=True)
class UsageRow:
    """Of one request."""

    now_s: int
    key: str
    model: str
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class DoorReport:
    """What a door tells every second."""

    door: str
    totals: Mapping[str, Total] = field(default_factory=dict)
    # name, number of the day, and tokens that are new since the last report that arrived
    day_tokens: Sequence[tuple[str, int, int]] = ()
    usage: Sequence[UsageRow] = ()
    serial: int = 0  # of the report: one that comes twice is written once


@dataclass(frozen=True, kw_only=True)
class OwnerNews:
    """What it is answered."""

    epoch: str
    elsewhere: Mapping[str, Total]
    keys: Sequence[KeyRecord]
    file_keys: Sequence[bytes]  # digests of those of `api_key_file`
    day: int
    day_tokens: Mapping[str, int]


class Owner:
    """Of one fleet."""

    def __init__(self, state_dir: Path, file_keys: Sequence[bytes]) -> None:
        """`file_keys`: digests of those of `api_key_file`, as the head has read it. Raises
        `BadDatabase` and `StorageFailed`.
        """
        self._clocks = Clocks()
        self._keys = KeyStore(state_dir / FILE_NAME, lambda: self._clocks.day)
        self._on_disk = self._keys.read_first()
        self._file_keys = file_keys
        self._counts = SharedCounts()
        self._usage = UsageFile.in_folder(state_dir)
        self._serials: dict[str, int] = {}
        self._reading = asyncio.Lock()

    async def exchange(self, report: DoorReport) -> OwnerNews:
        """Raises `StorageFailed` where the keys cannot be read: what a door knows stands then."""
        if report.serial > self._serials.get(report.door, -1):
            self._serials[report.door] = report.serial
            for name, day, num_tokens in report.day_tokens:
                self._keys.add_day_tokens(name, day, num_tokens)
            for row in report.usage:
                self._usage.add(row.now_s, row.key, row.model, row.counts)
        async with self._reading:
            found = await self._keys.read_changed()
            self._on_disk = found or self._on_disk
            # `read_changed` sees what others write, not what doors have told us
            day_tokens = await self._keys.day_tokens()
        known = self._on_disk
        return OwnerNews(
            epoch=self._counts.epoch,
            elsewhere=self._counts.report(report.door, report.totals),
            keys=() if known is None else known.records,
            file_keys=self._file_keys,
            day=self._clocks.day,
            day_tokens=day_tokens,
        )

    async def usage_report(self, query: UsageQuery) -> UsageReport:
        return await self._usage.report(query)

    async def key_uses(self, now_s: float) -> dict[str, KeyUse]:
        return await self._usage.key_uses(now_s)

    async def close(self) -> None:
        """Returns when all is written."""
        await self._usage.close()
        await self._keys.close()
