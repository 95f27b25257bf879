"""What SQLite says when the disk or another process is in the way, as our errors.

Knows no file and no table; what a statement itself did wrong is passed on as it is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from appliance.errors import ApplianceError, StorageBusy, StorageFailed, StorageFull

# SQLite's own sentences: before Python 3.11 its numbers are not told
_FULL = "database or disk is full"
_BUSY = ("database is locked", "database table is locked", "database schema is locked")
_READ_ONLY = "attempt to write a readonly database"
_DAMAGED = ("malformed", "file is not a database")
_DISK = ("disk i/o error", "unable to open database file", "large file support is disabled")


class DamagedFile(Exception):  # errors are named for what went wrong
    """What the file holds is no database, or not a whole one."""


@contextlib.contextmanager
def failures_named(name: str) -> Iterator[None]:
    """Around what uses the database called `name`.

    Raises `StorageFull`, `StorageBusy`, `StorageFailed` or `DamagedFile` for what SQLite
    says of the file, and passes on what it says of a statement.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error).lower()
        if any(words in text for words in _DAMAGED):
            raise DamagedFile(str(error)) from error
        if (failure := _failure_of(text, name)) is None:
            raise
        raise failure from error


def _failure_of(text: str, name: str) -> ApplianceError | None:
    if _FULL in text:
        return StorageFull(
            f"There is no room left for {name}: free some space on the disk that holds the "
            "server's --state-dir, or give what is kept there less of it."
        )
    if any(words in text for words in _BUSY):
        return StorageBusy(f"Another process has been writing to {name} for long. Try again.")
    if _READ_ONLY in text:
        return StorageFailed(
            f"{name} cannot be written: the server's --state-dir, or the disk that holds it, is "
            "read-only."
        )
    if any(words in text for words in _DISK):
        return StorageFailed(f"{name} cannot be read or written: {text}.")
    return None
