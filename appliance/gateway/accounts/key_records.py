"""The keys that were made, as rows of a database: their terms, their hashes, and when
they end.

Knows no request; of a key only its hash.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

from appliance.errors import BadKey, KeyExists, NotFound, Unauthorized
from appliance.gateway.accounts.caller import (
    ANONYMOUS,
    DEFAULT_PRIORITY,
    FILE_KEY_PREFIX,
    NO_LIMITS,
    Caller,
    CallerLimits,
)
from appliance.gateway.accounts.key_text import KeyHash, hash_of, key_id_of, new_key

FILE_NAME = "keys.sqlite"  # in the state folder

MIGRATIONS = (
    """
    CREATE TABLE keys (
        name TEXT PRIMARY KEY,
        key_id TEXT NOT NULL UNIQUE,
        salt BLOB NOT NULL,
        digest BLOB NOT NULL,
        cost INTEGER NOT NULL,
        created_s REAL NOT NULL,
        rotated_s REAL,
        expires_s REAL,
        revoked_s REAL,
        priority INTEGER NOT NULL,
        requests_per_minute INTEGER,
        tokens_per_minute INTEGER,
        tokens_per_day INTEGER,
        concurrent_requests INTEGER,
        models TEXT
    );
    CREATE TABLE day_tokens (
        name TEXT NOT NULL,
        day INTEGER NOT NULL,
        num_tokens INTEGER NOT NULL,
        PRIMARY KEY (name, day)
    ) WITHOUT ROWID;
    """,
    "ALTER TABLE keys ADD COLUMN is_admin INTEGER NOT NULL DEFAULT 0;",
)

# in the places where names of keys stand: everybody, and who is not told apart
_OTHERS_NAMES = (ANONYMOUS.id, "other")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class KeyTerms:
    """What the holder of a key may use, and for how long."""

    limits: CallerLimits = NO_LIMITS
    priority: int = DEFAULT_PRIORITY
    expires_s: float | None = None  # Unix time; None: never
    is_admin: bool = False

    def changed(self, given: Mapping[str, Any]) -> KeyTerms:
        """With these in place of what they were; terms are called as in `TERM_NAMES`."""
        own = {name: given[name] for name in _OWN_TERMS & given.keys()}
        limits = {name: value for name, value in given.items() if name not in own}
        return replace(self, limits=replace(self.limits, **limits), **own)


_OWN_TERMS = {each.name for each in fields(KeyTerms)} - {"limits"}
TERM_NAMES = frozenset(each.name for each in fields(CallerLimits)) | _OWN_TERMS


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """A key that was made."""

    name: str
    key_id: str  # the part of the key that is no secret
    hash: KeyHash
    created_s: float  # Unix time, as all that follow
    rotated_s: float | None
    revoked_s: float | None
    terms: KeyTerms

    @cached_property
    def caller(self) -> Caller:
        terms = self.terms
        return Caller(
            self.name,
            terms.limits,
            terms.priority,
            key_id=self.key_id,
            is_admin=terms.is_admin,
        )

    def check(self, now_s: float) -> None:
        """Raises `Unauthorized` where it opens nothing any more."""
        if self.revoked_s is not None:
            raise Unauthorized(f"The API key '{self.name}' was revoked on {utc(self.revoked_s)}.")
        expires_s = self.terms.expires_s
        if expires_s is not None and self.is_expired(now_s):
            raise Unauthorized(f"The API key '{self.name}' expired on {utc(expires_s)}.")

    def is_expired(self, now_s: float) -> bool:
        return self.terms.expires_s is not None and now_s >= self.terms.expires_s


def utc(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


# --- work on a connection -------------------------------------------------------------


def all_keys(connection: sqlite3.Connection) -> list[KeyRecord]:
    """By name, revoked and expired ones too."""
    return [_record(row) for row in connection.execute("SELECT * FROM keys ORDER BY name")]


def key_named(connection: sqlite3.Connection, name: str) -> KeyRecord:
    """Raises `NotFound`."""
    row = connection.execute("SELECT * FROM keys WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise no_key(name)
    return _record(row)


def no_key(name: str) -> NotFound:
    return NotFound(f"There is no key {name[:64]!r}. The list of keys has their names.")


def create_key(connection: sqlite3.Connection, name: str, terms: KeyTerms, now_s: float) -> str:
    """The new key, which is not to be had again.

    Raises `BadKey` for a name that is none, and `KeyExists` for one that is taken.
    """
    if _NAME.fullmatch(name) is None:
        raise BadKey(
            "A key's name must be 1 to 64 letters, digits and any of . _ @ + -, and begin with a "
            f"letter or digit (got {name!r}).",
            param="name",
        )
    if name in _OTHERS_NAMES or name.startswith(FILE_KEY_PREFIX):
        raise BadKey(
            f"'{name}' stands for another kind of caller. Choose another name.", param="name"
        )
    if connection.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
        raise KeyExists(
            f"There is a key '{name}' already, or there was. Rotate it to give it a new secret, or "
            "choose another name.",
            param="name",
        )
    key = new_key()
    connection.execute(
        "INSERT INTO keys (name, key_id, salt, digest, cost, created_s, priority)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, *_hashed(key), now_s, terms.priority),
    )
    change_terms(connection, name, terms)
    return key


def change_terms(connection: sqlite3.Connection, name: str, terms: KeyTerms) -> None:
    limits = terms.limits
    connection.execute(
        "UPDATE keys SET expires_s = ?, priority = ?, is_admin = ?, requests_per_minute = ?,"
        " tokens_per_minute = ?, tokens_per_day = ?, concurrent_requests = ?, models = ?"
        " WHERE name = ?",
        (
            terms.expires_s,
            terms.priority,
            terms.is_admin,
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.tokens_per_day,
            limits.concurrent_requests,
            None if limits.models is None else json.dumps(limits.models),
            name,
        ),
    )


def revoke_key(connection: sqlite3.Connection, name: str, now_s: float) -> None:
    """It stays in the table, so that its holder is told, and its name is not taken by
    somebody else. Raises `NotFound`.
    """
    if key_named(connection, name).revoked_s is None:
        connection.execute("UPDATE keys SET revoked_s = ? WHERE name = ?", (now_s, name))


def rotate_key(connection: sqlite3.Connection, name: str, now_s: float) -> str:
    """A new key on the same terms; the old one ends. One that was revoked counts again.

    Raises `NotFound`, and `BadKey` where it has expired.
    """
    record = key_named(connection, name)
    expires_s = record.terms.expires_s
    if expires_s is not None and record.is_expired(now_s):
        raise BadKey(
            f"The key '{name}' expired on {utc(expires_s)}. Give it more time first: change when "
            "it expires.",
            param="expires_s",
        )
    key = new_key()
    connection.execute(
        "UPDATE keys SET key_id = ?, salt = ?, digest = ?, cost = ?, rotated_s = ?,"
        " revoked_s = NULL WHERE name = ?",
        (*_hashed(key), now_s, name),
    )
    return key


def tokens_of_day(connection: sqlite3.Connection, day: int) -> dict[str, int]:
    """Used on that day, by name."""
    rows = connection.execute("SELECT name, num_tokens FROM day_tokens WHERE day = ?", (day,))
    return {row["name"]: row["num_tokens"] for row in rows}


def add_day_tokens(connection: sqlite3.Connection, name: str, day: int, num_tokens: int) -> None:
    """`num_tokens` may be negative. Earlier days are forgotten."""
    connection.execute("DELETE FROM day_tokens WHERE day < ?", (day,))
    connection.execute(
        "INSERT INTO day_tokens VALUES (?, ?, ?)"
        " ON CONFLICT (name, day) DO UPDATE SET num_tokens = num_tokens + excluded.num_tokens",
        (name, day, num_tokens),
    )


def _hashed(key: str) -> Iterable[str | bytes | int | None]:
    known = hash_of(key)
    return key_id_of(key), known.salt, known.digest, known.cost


def _record(row: sqlite3.Row) -> KeyRecord:
    models = row["models"]
    limits = CallerLimits(
        requests_per_minute=row["requests_per_minute"],
        tokens_per_minute=row["tokens_per_minute"],
        tokens_per_day=row["tokens_per_day"],
        concurrent_requests=row["concurrent_requests"],
        models=None if models is None else tuple(json.loads(models)),
    )
    return KeyRecord(
        name=row["name"],
        key_id=row["key_id"],
        hash=KeyHash(row["salt"], row["digest"], row["cost"]),
        created_s=row["created_s"],
        rotated_s=row["rotated_s"],
        revoked_s=row["revoked_s"],
        terms=KeyTerms(
            limits=limits,
            priority=row["priority"],
            expires_s=row["expires_s"],
            is_admin=bool(row["is_admin"]),
        ),
    )
