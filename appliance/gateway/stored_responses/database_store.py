"""Stored responses in a SQLite file: for how long, and how many bytes of them.

Knows no wire format; the statements are those of its tables.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from appliance.database.database import Database
from appliance.database.files import WhenDamaged, num_used_bytes
from appliance.errors import ApplianceError, NotFound, StorageFailed
from appliance.gateway.stored_responses import conversation_table, response_table
from appliance.gateway.stored_responses.schema import MIGRATIONS
from appliance.gateway.stored_responses.store import (
    StoredConversation,
    StoredItem,
    StoredResponse,
)

_log = logging.getLogger(__name__)

FILE_NAME = "responses.sqlite"

T = TypeVar("T")


class DatabaseStore:
    """Implements `ResponseStore`.

    What nobody has continued or added to for `lifetime_s` is removed, whenever something
    is read or written; so is what was used longest ago, while all of it takes more than
    `max_bytes` of the disk.
    """

    def __init__(
        self,
        database: Database,
        *,
        lifetime_s: float,
        max_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._lifetime_s = lifetime_s
        self._max_bytes = max_bytes
        self._clock = clock

    async def close(self) -> None:
        """Returns when everything is on disk."""
        await self._database.close()

    async def add(self, owner: str, response: StoredResponse) -> None:
        now_s = self._clock()
        await self._run(lambda to: response_table.write(to, owner, response, now_s))

    def save(
        self, owner: str, response: StoredResponse, said: Sequence[StoredItem] | None = None
    ) -> None:
        now_s = self._clock()

        def work(connection: sqlite3.Connection) -> None:
            response_table.write(connection, owner, response, now_s)
            if said and response.conversation_id is not None:
                _add_said(connection, owner, response.conversation_id, said, now_s)
            self._make_room(connection)

        self._database.submit(work)

    async def record(self, owner: str, response_id: str) -> bytes:
        return await self._run(lambda to: response_table.read_record(to, owner, response_id))

    async def history(self, owner: str, response_id: str) -> list[StoredResponse]:
        return await self._run(lambda to: response_table.read_history(to, owner, response_id))

    async def delete(self, owner: str, response_id: str) -> None:
        await self._run(lambda to: response_table.hide(to, owner, response_id))

    async def create_conversation(
        self, owner: str, conversation: StoredConversation, items: Sequence[StoredItem]
    ) -> None:
        def work(connection: sqlite3.Connection) -> None:
            conversation_table.create(connection, owner, conversation, self._clock())
            conversation_table.add_items(connection, owner, conversation.id, items, self._clock())

        await self._run(work)

    async def conversation(self, owner: str, conversation_id: str) -> StoredConversation:
        return await self._run(lambda to: conversation_table.read(to, owner, conversation_id))

    async def set_metadata(
        self, owner: str, conversation_id: str, metadata: bytes
    ) -> StoredConversation:
        def work(connection: sqlite3.Connection) -> StoredConversation:
            conversation_table.set_metadata(connection, owner, conversation_id, metadata)
            return conversation_table.read(connection, owner, conversation_id)

        return await self._run(work)

    async def delete_conversation(self, owner: str, conversation_id: str) -> None:
        await self._run(lambda to: conversation_table.delete(to, owner, conversation_id))

    async def items(self, owner: str, conversation_id: str) -> list[StoredItem]:
        return await self._run(lambda to: conversation_table.read_all(to, owner, conversation_id))

    async def add_items(
        self, owner: str, conversation_id: str, items: Sequence[StoredItem]
    ) -> None:
        await self._run(
            lambda to: conversation_table.add_items(
                to, owner, conversation_id, items, self._clock()
            )
        )

    async def delete_item(
        self, owner: str, conversation_id: str, item_id: str
    ) -> StoredConversation:
        def work(connection: sqlite3.Connection) -> StoredConversation:
            conversation_table.delete_item(connection, owner, conversation_id, item_id)
            return conversation_table.read(connection, owner, conversation_id)

        return await self._run(work)

    # --- on the database's thread -----------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def in_order(connection: sqlite3.Connection) -> T | ApplianceError:
            self._remove_expired(connection)
            try:
                result = work(connection)
            except ApplianceError as error:  # before it has written anything
                return error
            self._make_room(connection)
            return result

        result = await self._database.run(in_order)
        if isinstance(result, ApplianceError):
            raise result
        return result

    def _remove_expired(self, connection: sqlite3.Connection) -> None:
        if math.isinf(self._lifetime_s):
            return
        until_s = self._clock() - self._lifetime_s
        last = connection.execute(
            "SELECT number FROM responses WHERE num_next = 0 AND created_s <= ?", (until_s,)
        ).fetchall()
        for row in last:
            number: int | None = row["number"]
            # what it continued was there for its sake
            while number is not None and _is_expired(connection, number, until_s):
                number = response_table.remove(connection, number)
            response_table.remove_deleted(connection, number)
        connection.execute("DELETE FROM conversations WHERE used_s <= ?", (until_s,))

    def _make_room(self, connection: sqlite3.Connection) -> None:
        while num_used_bytes(connection) > self._max_bytes and _remove_oldest(connection):
            pass


def _add_said(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    said: Sequence[StoredItem],
    now_s: float,
) -> None:
    try:
        conversation_table.add_items(connection, owner, conversation_id, said, now_s)
    except NotFound:
        _log.info("a conversation was deleted before a response to it had ended")


def _is_expired(connection: sqlite3.Connection, number: int, until_s: float) -> bool:
    row = connection.execute(
        "SELECT 1 FROM responses WHERE number = ? AND num_next = 0 AND created_s <= ?",
        (number, until_s),
    ).fetchone()
    return row is not None


def _remove_oldest(connection: sqlite3.Connection) -> bool:
    """The response or conversation that was used longest ago; False: there is none."""
    response = connection.execute(
        "SELECT number, created_s FROM responses WHERE num_next = 0 ORDER BY created_s LIMIT 1"
    ).fetchone()
    conversation = connection.execute(
        "SELECT number, used_s FROM conversations ORDER BY used_s LIMIT 1"
    ).fetchone()
    if response is None and conversation is None:
        return False
    if conversation is None or (
        response is not None and response["created_s"] <= conversation["used_s"]
    ):
        previous = response_table.remove(connection, response["number"])
        response_table.remove_deleted(connection, previous)
    else:
        connection.execute("DELETE FROM conversations WHERE number = ?", (conversation["number"],))
    return True


def open_store(state_dir: Path, *, lifetime_s: float, max_bytes: int) -> DatabaseStore:
    """In the state folder, or where that cannot be written in memory, with a warning.

    Raises `BadDatabase` where a newer program has written the file.
    """
    when_damaged = WhenDamaged.SET_ASIDE
    try:
        database = Database(state_dir / FILE_NAME, MIGRATIONS, when_damaged=when_damaged)
    except StorageFailed as error:
        _log.warning("stored responses are kept in memory alone: %s", error.message)
        database = Database(None, MIGRATIONS, when_damaged=when_damaged)
    return DatabaseStore(database, lifetime_s=lifetime_s, max_bytes=max_bytes)
