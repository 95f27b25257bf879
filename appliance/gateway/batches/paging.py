"""One page of a caller's rows, in the order in which they were made.

Knows no column beyond what orders them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from appliance.errors import BadRequest
from appliance.gateway.batches.records import Page

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PageQuery:
    limit: int
    after: str | None = None  # the id of the last one of the page before
    is_ascending: bool = False  # the oldest first


def page_of(
    connection: sqlite3.Connection,
    table: str,
    caller_id: str,
    query: PageQuery,
    record_of: Callable[[sqlite3.Row], T],
    **columns: str,
) -> Page[T]:
    """Those rows of this caller's whose `columns` have these values. Raises `BadRequest`
    where `after` names none of the caller's.
    """
    where, values = "caller = ?", [caller_id]
    for name, value in columns.items():
        where += f" AND {name} = ?"
        values.append(value)
    if query.after is not None:
        last = connection.execute(
            f"SELECT seq FROM {table} WHERE id = ? AND caller = ?", (query.after, caller_id)
        ).fetchone()
        if last is None:
            raise BadRequest("Invalid 'after': there is nothing with this id.", param="after")
        where += f" AND seq {'>' if query.is_ascending else '<'} {last['seq']:d}"
    order = "ASC" if query.is_ascending else "DESC"
    rows = connection.execute(
        f"SELECT * FROM {table} WHERE {where} ORDER BY seq {order} LIMIT {query.limit + 1:d}",
        values,
    ).fetchall()
    return Page([record_of(row) for row in rows[: query.limit]], len(rows) > query.limit)
