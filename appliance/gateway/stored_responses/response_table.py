"""Responses in their table: written, read with all that they continue, deleted.

Knows no thread, no lifetime and no budget.
"""

from __future__ import annotations

import sqlite3

from appliance.errors import BadRequest, NotFound
from appliance.gateway.stored_responses.store import StoredItem, StoredResponse

MAX_HISTORY_BYTES = 16 << 20  # of all items that one request may begin with


def write(
    connection: sqlite3.Connection, owner: str, response: StoredResponse, now_s: float
) -> None:
    """In the place of what was written of it before, if anything was."""
    found = connection.execute(
        "SELECT number, is_deleted FROM responses WHERE id = ?", (response.id,)
    ).fetchone()
    if found is not None:
        connection.execute(
            "UPDATE responses SET record = ?, has_ended = ? WHERE number = ?",
            (response.record, response.has_ended, found["number"]),
        )
        return
    previous = _number_of(connection, owner, response.previous_id)
    items = response.input_items
    if previous is None:  # the chain begins here: what it continues was deleted while it ran
        items = [*response.earlier_items, *items]
    cursor = connection.execute(
        "INSERT INTO responses (id, owner, created_s, previous, conversation_id, record, has_ended)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            response.id,
            owner,
            now_s,
            previous,
            response.conversation_id,
            response.record,
            response.has_ended,
        ),
    )
    connection.execute("UPDATE responses SET num_next = num_next + 1 WHERE number = ?", (previous,))
    connection.executemany(
        "INSERT INTO input_items (response, id, content) VALUES (?, ?, ?)",
        [(cursor.lastrowid, item.id, item.content) for item in items],
    )


def read_record(connection: sqlite3.Connection, owner: str, response_id: str) -> bytes:
    """Raises `NotFound`."""
    row = connection.execute(
        "SELECT record FROM responses WHERE id = ? AND owner = ? AND NOT is_deleted",
        (response_id, owner),
    ).fetchone()
    if row is None:
        raise no_response(response_id)
    return bytes(row["record"])


def read_history(
    connection: sqlite3.Connection, owner: str, response_id: str
) -> list[StoredResponse]:
    """The response and all that it continues, the first one first. Raises `NotFound` and
    `BadRequest`.
    """
    number = _number_of(connection, owner, response_id)
    turns = []
    num_bytes = 0
    while number is not None:
        row = connection.execute("SELECT * FROM responses WHERE number = ?", (number,)).fetchone()
        items = read_items(connection, "input_items", "response", number)
        num_bytes += len(row["record"]) + sum(len(item.content) for item in items)
        check_size(num_bytes)
        turns.append(
            StoredResponse(
                id=row["id"],
                record=row["record"],
                input_items=items,
                conversation_id=row["conversation_id"],
                has_ended=bool(row["has_ended"]),
            )
        )
        number = row["previous"]
    if not turns:
        raise no_response(response_id)
    return turns[::-1]


def read_items(
    connection: sqlite3.Connection, table: str, holder: str, number: int
) -> list[StoredItem]:
    rows = connection.execute(
        f"SELECT id, content FROM {table} WHERE {holder} = ? ORDER BY number", (number,)
    )
    return [StoredItem(id=row["id"], content=row["content"]) for row in rows]


def check_size(num_bytes: int) -> None:
    """Raises `BadRequest`."""
    if num_bytes > MAX_HISTORY_BYTES:
        raise BadRequest(
            f"What was said before has more than {MAX_HISTORY_BYTES >> 20} MiB, which is the most "
            "that is read again: begin anew with what is needed of it."
        )


def hide(connection: sqlite3.Connection, owner: str, response_id: str) -> None:
    """Its owner deletes it; removed at once unless others continue it. Raises
    `NotFound`.
    """
    number = _number_of(connection, owner, response_id)
    if number is None:
        raise no_response(response_id)
    connection.execute("UPDATE responses SET is_deleted = 1 WHERE number = ?", (number,))
    remove_deleted(connection, number)


def remove_deleted(connection: sqlite3.Connection, number: int | None) -> None:
    """This one and then those before it, as long as they are deleted and nothing
    continues them.
    """
    while number is not None:
        row = connection.execute(
            "SELECT previous, num_next, is_deleted FROM responses WHERE number = ?", (number,)
        ).fetchone()
        if row["num_next"] or not row["is_deleted"]:
            return
        number = remove(connection, number)


def remove(connection: sqlite3.Connection, number: int) -> int | None:
    """One that nothing continues; returns the one that it continued."""
    row = connection.execute(
        "SELECT previous FROM responses WHERE number = ? AND num_next = 0", (number,)
    ).fetchone()
    previous: int | None = row["previous"]
    connection.execute("DELETE FROM responses WHERE number = ?", (number,))
    connection.execute("UPDATE responses SET num_next = num_next - 1 WHERE number = ?", (previous,))
    return previous


def _number_of(connection: sqlite3.Connection, owner: str, response_id: str | None) -> int | None:
    row = connection.execute(
        "SELECT number FROM responses WHERE id = ? AND owner = ? AND NOT is_deleted",
        (response_id, owner),
    ).fetchone()
    return None if row is None else row["number"]


def no_response(response_id: str) -> NotFound:
    """Whether there never was one, or it is somebody else's, is not told."""
    return NotFound(f"There is no response with id '{response_id[:100]}'.")
