"""The file of keys beside a running server: read when somebody changes it, and written
where a day's tokens are used.

Knows no request. The event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.database.database import Database
from appliance.database.files import WhenDamaged, opened, pragma
from appliance.gateway.accounts.key_records import (
    MIGRATIONS,
    KeyRecord,
    add_day_tokens,
    all_keys,
    tokens_of_day,
)


@dataclass(frozen=True)
class KeysOnDisk:
    """What the file holds."""

    records: list[KeyRecord]
    day: int  # its number
    day_tokens: dict[str, int]  # that were used on it, by name


class KeyStore:
    """There is no file until somebody makes a key; then it is never gone again for this
    process, whatever becomes of it on disk.
    """

    def __init__(self, path: Path, today: Callable[[], int]) -> None:
        """`today`: the number of the day."""
        self._path = path
        self._today = today
        self._database: Database | None = None
        # what was read last: versions are those of a connection
        self._seen: tuple[sqlite3.Connection, int] | None = None

    def read_first(self) -> KeysOnDisk | None:
        """Before there is an event loop; None where there is no file.

        Raises `BadDatabase` where it is damaged or of a newer program, and `StorageFailed`
        where it cannot be read: a server that does not know its keys must not serve.
        """
        if not self._path.exists():
            return None
        with opened(self._path, MIGRATIONS) as connection:
            return self._read(connection)

    async def read_changed(self) -> KeysOnDisk | None:
        """None where there is no file, or nothing has changed.

        Raises `BadDatabase` and `StorageFailed`.
        """
        if self._database is None:
            self._database = await asyncio.to_thread(self._open)
        if self._database is None:
            return None
        return await self._database.run(self._read_if_changed)

    async def day_tokens(self) -> dict[str, int]:
        """What was used today, by name, what `add_day_tokens` was told so far included.

        Raises `StorageFailed`.
        """
        if self._database is None:
            return {}
        return await self._database.run(lambda connection: tokens_of_day(connection, self._today()))

    def add_day_tokens(self, name: str, day: int, num_tokens: int) -> None:
        """On disk at most a second later. Never waits and never raises."""
        if self._database is not None:
            self._database.submit(
                lambda connection: add_day_tokens(connection, name, day, num_tokens)
            )

    async def close(self) -> None:
        """Returns when all is written."""
        if self._database is not None:
            await self._database.close()

    def _open(self) -> Database | None:
        if not self._path.exists():
            return None
        return Database(self._path, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)

    # --- on the database's thread -----------------------------------------------------

    def _read_if_changed(self, connection: sqlite3.Connection) -> KeysOnDisk | None:
        # counts what others have written, not what this connection has
        seen = connection, pragma(connection, "data_version")
        if seen == self._seen:
            return None
        found = self._read(connection)
        self._seen = seen
        return found

    def _read(self, connection: sqlite3.Connection) -> KeysOnDisk:
        day = self._today()
        return KeysOnDisk(all_keys(connection), day, tokens_of_day(connection, day))
