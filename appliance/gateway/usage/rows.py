"""Where what was used is written down, request by request, and asked for. Knows no request."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.errors import StorageFailed
from appliance.gateway.usage.counts import Counts
from appliance.gateway.usage.keys import KeyUse, read_key_uses
from appliance.gateway.usage.query import UsageQuery, read_report
from appliance.gateway.usage.report import UsageReport
from appliance.gateway.usage.tables import DAY_S, FILE_NAME, MIGRATIONS, add_request, roll_up

_log = logging.getLogger(__name__)
_ROLL_UP_EVERY = 1_000  # requests


class UsageRows(Protocol):
    """A file of this machine, or somebody else's."""

    @property
    def num_lost(self) -> int:
        """Requests that could not be written down."""

    def add(self, now_s: int, key: str, model: str, counts: Counts) -> None:
        """Of one request. Never waits and never raises."""

    async def report(self, query: UsageQuery) -> UsageReport:
        """Of everything until now. Raises `StorageFailed`."""

    async def key_uses(self, now_s: float) -> dict[str, KeyUse]:
        """Of each key that was ever used. Raises `StorageFailed`."""

    async def close(self) -> None:
        """Returns when everything is written."""


class UsageFile:
    """Implements `UsageRows`. Each row is on disk a second later, so that a process that is
    killed loses no more.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._day = 0  # that was rolled up last
        self._num_since = 0  # requests since then

    @classmethod
    def in_folder(cls, state_dir: Path) -> UsageFile:
        """Where nothing can be written there, usage is kept in memory, and that is logged: a
        server that cannot count is better than none.

        Raises `BadDatabase` where a newer program has written the file.
        """
        path, damaged = state_dir / FILE_NAME, WhenDamaged.SET_ASIDE
        try:
            return cls(Database(path, MIGRATIONS, when_damaged=damaged))
        except StorageFailed as error:
            _log.error("usage is forgotten when the server stops: %s", error.message)
            return cls(Database(None, MIGRATIONS, when_damaged=damaged))

    @property
    def num_lost(self) -> int:
        return self._database.num_lost

    def add(self, now_s: int, key: str, model: str, counts: Counts) -> None:
        self._database.submit(lambda raw: add_request(raw, now_s, key, model, counts))
        self._num_since += 1
        if now_s // DAY_S != self._day or self._num_since >= _ROLL_UP_EVERY:
            self._day, self._num_since = now_s // DAY_S, 0
            self._database.submit(lambda raw: roll_up(raw, now_s))

    async def report(self, query: UsageQuery) -> UsageReport:
        return await self._database.run(lambda raw: read_report(raw, query))

    async def key_uses(self, now_s: float) -> dict[str, KeyUse]:
        return await self._database.run(lambda raw: read_key_uses(raw, now_s))

    async def close(self) -> None:
        await self._database.close()
