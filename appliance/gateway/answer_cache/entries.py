"""Values by their keys in a SQLite file, for so long and so many bytes; what was used
longest ago goes first.

Knows nothing of what the values are.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.database.database import Database
from appliance.database.files import WhenDamaged, num_used_bytes
from appliance.errors import StorageFailed
from appliance.time_limit import within

_log = logging.getLogger(__name__)

MIGRATIONS = (
    """
    CREATE TABLE entries (
        number INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        used_s REAL NOT NULL,
        value BLOB NOT NULL
    ) STRICT;
    CREATE INDEX entries_by_use ON entries (used_s);
    """,
)
_MAX_WAIT_S = 1.0  # for the disk; then computing is no slower
_MAX_UNWRITTEN_BYTES = 8 << 20  # in memory, where the disk is slow


@dataclass(frozen=True, kw_only=True)
class CacheRules:
    """What may be kept."""

    lifetime_s: float  # since it was last used; infinite: as long as there is room
    max_bytes: int  # of the file


@dataclass(eq=False)
class _Batch:
    entries: Mapping[bytes, bytes]
    num_bytes: int


class Entries:
    """A disk that fails costs time at most: nothing is found, or nothing is kept."""

    def __init__(
        self, database: Database, rules: CacheRules, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` is in seconds since the epoch."""
        self._database = database
        self._rules = rules
        self._clock = clock
        self._unwritten: weakref.WeakSet[_Batch] = weakref.WeakSet()
        self._has_failed = False
        self.num_bytes = 0  # of the file when it was last used
        now_s = clock()
        database.submit(lambda connection: self._clean_up(connection, now_s))

    @classmethod
    def in_file(cls, path: Path, rules: CacheRules) -> Entries | None:
        """None, and a warning, where it cannot be opened: a cache in memory would take what
        models need. Raises `BadDatabase` where a newer program has written the file.
        """
        try:
            database = Database(path, MIGRATIONS, when_damaged=WhenDamaged.SET_ASIDE)
        except StorageFailed as error:
            _log.warning("nothing is cached in %s: %s", path.name, error.message)
            return None
        return cls(database, rules)

    @property
    def max_value_bytes(self) -> int:
        """One that is larger would leave no room for others."""
        return self._rules.max_bytes // 8

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there, which are used by that."""
        now_s = self._clock()
        work = self._database.run(lambda connection: self._read(connection, keys, now_s))
        try:
            return await within(_MAX_WAIT_S, work)
        except StorageFailed as error:
            self._tell_failure(error.message)
        except asyncio.TimeoutError:
            self._tell_failure("it took too long to read")
        return {}

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Neither waits nor raises. What is there already stays as it is."""
        num_bytes = sum(map(len, entries.values()))
        if num_bytes + sum(batch.num_bytes for batch in self._unwritten) > _MAX_UNWRITTEN_BYTES:
            self._tell_failure("it is written too slowly")
            return
        batch = _Batch(entries, num_bytes)
        self._unwritten.add(batch)  # until the database lets go of it, written or not
        now_s = self._clock()
        self._database.submit(lambda connection: self._write(connection, batch, now_s))

    async def close(self) -> None:
        """Returns when everything is written."""
        await self._database.close()

    def _tell_failure(self, reason: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            _log.warning("a cache does without some of what it could hold: %s", reason)

    # --- on the database's thread -----------------------------------------------------

    def _read(
        self, connection: sqlite3.Connection, keys: Sequence[bytes], now_s: float
    ) -> dict[bytes, bytes]:
        self._clean_up(connection, now_s)
        found = {}
        for key in keys:
            row = connection.execute(
                "SELECT number, value FROM entries WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                found[key] = bytes(row["value"])
                connection.execute(
                    "UPDATE entries SET used_s = ? WHERE number = ?", (now_s, row["number"])
                )
        return found

    def _write(self, connection: sqlite3.Connection, batch: _Batch, now_s: float) -> None:
        connection.executemany(
            "INSERT INTO entries (key, used_s, value) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET used_s = excluded.used_s",
            [(key, now_s, value) for key, value in batch.entries.items()],
        )
        self._clean_up(connection, now_s)

    def _clean_up(self, connection: sqlite3.Connection, now_s: float) -> None:
        if not math.isinf(self._rules.lifetime_s):
            until_s = now_s - self._rules.lifetime_s
            connection.execute("DELETE FROM entries WHERE used_s <= ?", (until_s,))
        while num_used_bytes(connection) > self._rules.max_bytes:
            cursor = connection.execute(
                "DELETE FROM entries WHERE number = "
                "(SELECT number FROM entries ORDER BY used_s, number LIMIT 1)"
            )
            if not cursor.rowcount:
                break
        self.num_bytes = num_used_bytes(connection)
