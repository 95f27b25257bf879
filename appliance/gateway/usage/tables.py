"""The tables of usage: each request of the latest days, and of the days before sums for each
day, key and model.

Knows no price, and no thread: each function is the work of one transaction.

Sums and requests are never both there for the same request. What grows is bounded by
`MAX_REQUESTS` and by `MAX_DAYS` times keys times models. Days are UTC's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.gateway.usage.counts import COUNT_NAMES, Counts

FILE_NAME = "usage.sqlite"
DAY_S = 86_400
MAX_REQUESTS = 50_000  # kept one by one: 3 to 8 MiB
MAX_DAYS = 1_100  # with requests, not of the calendar: a clock that was wrong deletes nothing
DIMENSIONS = ("key", "model", "day")  # by which usage is told apart

_COLUMNS = ", ".join(COUNT_NAMES)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in COUNT_NAMES)
_PLACES = ", ".join("?" * len(COUNT_NAMES))
MIGRATIONS = (
    """
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        at_s INTEGER NOT NULL,  -- its end, since the epoch
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        drafted_tokens INTEGER NOT NULL,
        accepted_draft_tokens INTEGER NOT NULL,
        prompt_s REAL NOT NULL,
        answer_s REAL NOT NULL,
        draft_s REAL NOT NULL,
        untimed_prompt_tokens INTEGER NOT NULL,
        untimed_completion_tokens INTEGER NOT NULL,
        metered_s REAL NOT NULL,
        energy_j REAL NOT NULL
    ) STRICT;
    CREATE TABLE days (
        day TEXT NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        drafted_tokens INTEGER NOT NULL,
        accepted_draft_tokens INTEGER NOT NULL,
        prompt_s REAL NOT NULL,
        answer_s REAL NOT NULL,
        draft_s REAL NOT NULL,
        untimed_prompt_tokens INTEGER NOT NULL,
        untimed_completion_tokens INTEGER NOT NULL,
        metered_s REAL NOT NULL,
        energy_j REAL NOT NULL,
        PRIMARY KEY (day, key, model)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE requests ADD COLUMN replayed_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE days ADD COLUMN replayed_tokens INTEGER NOT NULL DEFAULT 0;
    """,
)


@dataclass(frozen=True)
class Group:
    """Requests that are told apart from others, and what they used."""

    names: dict[str, str]  # by dimension
    counts: Counts


def add_request(
    connection: sqlite3.Connection, at_s: int, key: str, model: str, counts: Counts
) -> None:
    connection.execute(
        f"INSERT INTO requests (at_s, key, model, {_COLUMNS}) VALUES (?, ?, ?, {_PLACES})",
        (at_s, key, model, *(getattr(counts, name) for name in COUNT_NAMES)),
    )


def roll_up(connection: sqlite3.Connection, now_s: int, most: int = MAX_REQUESTS) -> None:
    """Requests of days before yesterday become sums, and the first ones of more than `most`;
    days beyond `MAX_DAYS` are forgotten.
    """
    last = connection.execute(
        "SELECT id FROM requests ORDER BY id DESC LIMIT 1 OFFSET ?", (most,)
    ).fetchone()
    chosen = "WHERE at_s < ? OR id <= ?"
    values = ((now_s // DAY_S - 1) * DAY_S, 0 if last is None else last["id"])
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNT_NAMES)
    connection.execute(
        f"INSERT INTO days (day, key, model, {_COLUMNS}) "
        f"SELECT date(at_s, 'unixepoch') AS day, key, model, {_SUMS} FROM requests {chosen} "
        f"GROUP BY 1, 2, 3 ON CONFLICT (day, key, model) DO UPDATE SET {added}",
        values,
    )
    connection.execute(f"DELETE FROM requests {chosen}", values)
    connection.execute(
        "DELETE FROM days WHERE day < (SELECT min(day) FROM "
        "(SELECT DISTINCT day FROM days ORDER BY day DESC LIMIT ?))",
        (MAX_DAYS,),
    )


def read_last_used(connection: sqlite3.Connection) -> dict[str, float]:
    """When each key's latest request ended, since the epoch; of days of which only sums are
    there, when the day began.
    """
    rows = connection.execute(
        "SELECT key, max(at_s) AS at_s FROM (SELECT key, at_s FROM requests UNION ALL "
        "SELECT key, strftime('%s', day) + 0 FROM days) GROUP BY key"
    )
    return {row["key"]: float(row["at_s"]) for row in rows}


def read_groups(
    connection: sqlite3.Connection, by: Sequence[str], since_s: float, key: str | None
) -> list[Group]:
    """In order of their names, of `DIMENSIONS`; of one key alone, or of all for None. Of days
    of which only sums are there, the one that `since_s` is in counts as a whole.
    """
    assert set(by) <= set(DIMENSIONS)
    names = ", ".join(by)
    order = f"GROUP BY {names} ORDER BY {names}" if names else ""
    rows = connection.execute(
        f"SELECT {names + ',' if names else ''} {_SUMS} FROM ("
        f"SELECT date(at_s, 'unixepoch') AS day, key, model, {_COLUMNS} FROM requests "
        "WHERE at_s >= :since UNION ALL "
        f"SELECT day, key, model, {_COLUMNS} FROM days WHERE day >= date(:since, 'unixepoch')) "
        f"WHERE :key IS NULL OR key = :key {order}",
        {"since": since_s, "key": key},
    )
    return [
        Group(
            {name: row[name] for name in by},
            Counts(**{name: row[name] for name in COUNT_NAMES if row[name] is not None}),
        )
        for row in rows
    ]
