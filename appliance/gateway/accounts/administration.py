"""Keys made, changed and ended while serving, as `appliance keys` does it on the machine.

Knows no request and no caller: who may do this is decided by whoever asks. Each change is
one transaction on a connection of its own, on the disk before it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from appliance.database.files import opened
from appliance.errors import BadDatabase, StorageFailed
from appliance.gateway.accounts.key_description import KeyDescription, description_of
from appliance.gateway.accounts.key_records import (
    MIGRATIONS,
    KeyTerms,
    all_keys,
    change_terms,
    create_key,
    key_named,
    no_key,
    revoke_key,
    rotate_key,
    tokens_of_day,
)
from appliance.gateway.accounts.used import Clocks

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class KeyAdministration:
    """Of the keys in one file. All raise `StorageFailed` where the file is in the way."""

    def __init__(
        self, path: Path, *, clocks: Clocks, on_changed: Callable[[], Awaitable[None]]
    ) -> None:
        """`on_changed`: what was changed counts when it is done."""
        self._path = path
        self._clocks = clocks
        self._on_changed = on_changed

    async def descriptions(self) -> list[KeyDescription]:
        """By name, of revoked and expired ones too."""

        def read(connection: sqlite3.Connection) -> list[KeyDescription]:
            now_s, used = self._clocks.unix_s(), tokens_of_day(connection, self._clocks.day)
            return [
                description_of(record, used.get(record.name, 0), now_s)
                for record in all_keys(connection)
            ]

        if not self._path.exists():
            return []
        return await asyncio.to_thread(self._run, read)

    async def create(self, name: str, given: Mapping[str, Any]) -> str:
        """The new key, on the terms that are given. Raises what `create_key` does."""
        terms = KeyTerms().changed(given)
        return await self._change(
            lambda connection: create_key(connection, name, terms, self._clocks.unix_s())
        )

    async def change(self, name: str, given: Mapping[str, Any]) -> None:
        """Terms that are not given stay, also where somebody else changes them meanwhile.
        Raises `NotFound`.
        """

        def change(connection: sqlite3.Connection) -> None:
            terms = key_named(connection, name).terms.changed(given)
            change_terms(connection, name, terms)

        await self._change_of(name, change)

    async def rotate(self, name: str) -> str:
        """The key in place of the one that ends. Raises what `rotate_key` does."""
        return await self._change_of(
            name, lambda connection: rotate_key(connection, name, self._clocks.unix_s())
        )

    async def revoke(self, name: str) -> None:
        """Raises `NotFound`."""
        await self._change_of(
            name, lambda connection: revoke_key(connection, name, self._clocks.unix_s())
        )

    async def _change_of(self, name: str, work: Work[T]) -> T:
        if not self._path.exists():  # looking for a key makes no file
            raise no_key(name)
        return await self._change(work)

    async def _change(self, work: Work[T]) -> T:
        result = await asyncio.to_thread(self._run, work)
        await self._on_changed()
        return result

    def _run(self, work: Work[T]) -> T:
        with self._opened() as connection:
            return work(connection)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with opened(self._path, MIGRATIONS) as connection:
                yield connection
        except BadDatabase as error:  # its message is for whoever starts the server
            raise StorageFailed(f"{self._path.name} cannot be used: it is damaged.") from error
