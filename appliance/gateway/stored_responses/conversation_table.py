"""Conversations and their items in their tables.

Knows no response, no lifetime and no budget.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from appliance.errors import NotFound
from appliance.gateway.stored_responses.response_table import check_size, read_items
from appliance.gateway.stored_responses.store import StoredConversation, StoredItem


def create(
    connection: sqlite3.Connection, owner: str, conversation: StoredConversation, now_s: float
) -> None:
    connection.execute(
        "INSERT INTO conversations (id, owner, created_s, used_s, metadata) VALUES (?, ?, ?, ?, ?)",
        (conversation.id, owner, conversation.created_s, now_s, conversation.metadata),
    )


def read(connection: sqlite3.Connection, owner: str, conversation_id: str) -> StoredConversation:
    """Raises `NotFound`."""
    row = _row(connection, owner, conversation_id)
    return StoredConversation(
        id=row["id"], created_s=int(row["created_s"]), metadata=row["metadata"]
    )


def set_metadata(
    connection: sqlite3.Connection, owner: str, conversation_id: str, metadata: bytes
) -> None:
    """Raises `NotFound`."""
    number = _row(connection, owner, conversation_id)["number"]
    connection.execute("UPDATE conversations SET metadata = ? WHERE number = ?", (metadata, number))


def delete(connection: sqlite3.Connection, owner: str, conversation_id: str) -> None:
    """With its items. Raises `NotFound`."""
    number = _row(connection, owner, conversation_id)["number"]
    connection.execute("DELETE FROM conversations WHERE number = ?", (number,))


def read_all(connection: sqlite3.Connection, owner: str, conversation_id: str) -> list[StoredItem]:
    """Its items in the order of coming. Raises `NotFound` and `BadRequest`."""
    number = _row(connection, owner, conversation_id)["number"]
    [num_bytes] = connection.execute(
        "SELECT ifnull(sum(length(content)), 0) FROM conversation_items WHERE conversation = ?",
        (number,),
    ).fetchone()
    check_size(num_bytes)
    return read_items(connection, "conversation_items", "conversation", number)


def add_items(
    connection: sqlite3.Connection,
    owner: str,
    conversation_id: str,
    items: Sequence[StoredItem],
    now_s: float,
) -> None:
    """Raises `NotFound`."""
    number = _row(connection, owner, conversation_id)["number"]
    connection.execute("UPDATE conversations SET used_s = ? WHERE number = ?", (now_s, number))
    connection.executemany(
        "INSERT INTO conversation_items (conversation, id, content) VALUES (?, ?, ?)",
        [(number, item.id, item.content) for item in items],
    )


def delete_item(
    connection: sqlite3.Connection, owner: str, conversation_id: str, item_id: str
) -> None:
    """Raises `NotFound`."""
    number = _row(connection, owner, conversation_id)["number"]
    deleted = connection.execute(
        "DELETE FROM conversation_items WHERE conversation = ? AND id = ?", (number, item_id)
    )
    if not deleted.rowcount:
        raise NotFound(f"There is no item with id '{item_id[:100]}' in the conversation.")


def _row(connection: sqlite3.Connection, owner: str, conversation_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM conversations WHERE id = ? AND owner = ?", (conversation_id, owner)
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no conversation with id '{conversation_id[:100]}'.")
    return row
