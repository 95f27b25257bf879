"""A SQLite file from its path to a connection: private, in WAL mode, of the version that
this program knows, or set aside where it is damaged.

Knows no table; its migrations are handed to it.

Source: https://www.sqlite.org/pragma.html
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path

from appliance.database.failures import DamagedFile, failures_named
from appliance.errors import BadDatabase, StorageFailed

_log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5.0  # for another process to end its transaction
IN_MEMORY = "the database in memory"
_MAX_CHECKED_BYTES = 16 << 20  # files up to this size are read whole when they are opened
_MAX_WAL_BYTES = 4 << 20  # that stay on disk after a checkpoint
_BESIDE = ("-wal", "-shm")  # what belongs to a file, by the ends of its names


_FileId = tuple[int, int]  # of a file, whatever its name: device and number


@dataclass(frozen=True)
class Identity:
    """Which files a connection has open."""

    main: _FileId
    log: _FileId | None  # with what is not in the main one yet; None: not known


class WhenDamaged(Enum):
    """What becomes of a file that is no database any more."""

    SET_ASIDE = "set aside"  # renamed, with a warning, and a new one begun
    REFUSE = "refuse"  # to go on without what it held


@dataclass(frozen=True, kw_only=True)
class DatabaseFile:
    """Which file, and what is expected of it."""

    path: Path | None  # None: in memory, and gone with its connection
    migrations: Sequence[str]  # scripts; the n-th makes version n of version n-1
    when_damaged: WhenDamaged = WhenDamaged.REFUSE

    @property
    def name(self) -> str:
        """For messages that clients may read: no folder."""
        return IN_MEMORY if self.path is None else self.path.name

    def connect(self) -> sqlite3.Connection:
        """To be used by the thread that calls this, and closed by it.

        Transactions are begun and ended by whoever uses it; rows are `sqlite3.Row`.
        Raises `BadDatabase` where the file is of a newer program, or is damaged and to be
        refused, and `StorageFailed` where it cannot be opened.
        """
        if self.path is None:
            return self._opened(":memory:")
        with self._alone(self.path):
            _make_private(self.path)
            try:
                return self._opened(str(self.path))
            except DamagedFile as damage:
                self._give_up(self.path, damage)
                _make_private(self.path)
                return self._opened(str(self.path))

    def set_aside(self, damage: DamagedFile, identity: Identity | None) -> bool:
        """Where a connection, closed by now, met `damage`; `identity`: of its file, which
        another process may have set aside meanwhile. False: it is to be refused.
        """
        if self.when_damaged is WhenDamaged.REFUSE:
            return False
        if self.path is not None:
            with self._alone(self.path):
                now = self.identity()
                if identity is not None and now is not None and now.main == identity.main:
                    self._give_up(self.path, damage)
        return True

    def identity(self) -> Identity | None:
        """Of the file at the path, if there is one."""
        main = None if self.path is None else _file_id(self.path)
        return None if main is None else Identity(main, _file_id(Path(f"{self.path}-wal")))

    def is_gone(self, identity: Identity | None) -> bool:
        """Whether another file is at the path than the one that was opened, or none, and a
        new one may be begun; or another log beside it, in which others write by now.
        """
        if self.path is None or identity is None:
            return False
        now = self.identity()
        if now is None:
            return self.when_damaged is WhenDamaged.SET_ASIDE
        return now.main != identity.main or identity.log not in (None, now.log)

    def abandon(self, connection: sqlite3.Connection, identity: Identity | None) -> None:
        """Closes a connection to what `is_gone`. SQLite writes the log that it has into the
        main file then, over what others wrote there, unless that is not at its path.
        """
        if self.path is None:
            connection.close()
            return
        with self._alone(self.path):
            now = self.identity()
            if now is None or identity is None or now.main != identity.main:
                connection.close()
                return
            aside = self.path.with_name(f".{self.path.name}.closing")
            self.path.replace(aside)
            try:
                connection.close()
            finally:
                aside.replace(self.path)

    def _give_up(self, path: Path, damage: DamagedFile) -> None:
        if self.when_damaged is WhenDamaged.REFUSE:
            raise BadDatabase(
                f"{path} is damaged ({damage}): restore it from a copy, or move it away to begin "
                "without what it held."
            ) from damage
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = path.with_name(f"{path.name}.damaged-{stamp}")
        for end in ("", *_BESIDE):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{end}", f"{aside}{end}")  # noqa: PTH105  # of names made of text
        _log.warning(
            "%s was damaged (%s): it is now %s, and a new one is begun", path, damage, aside.name
        )

    @contextlib.contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """One process at a time opens, migrates or sets aside the file."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            is_file = isinstance(error, FileExistsError)
            reason = "its folder is a file" if is_file else error.strerror
            raise StorageFailed(f"{path} cannot be opened: {reason}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _opened(self, target: str) -> sqlite3.Connection:
        with failures_named(self.name):
            connection = sqlite3.connect(target, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            try:
                connection.row_factory = sqlite3.Row
                self._set_up(connection)
                self._migrate(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        if not pragma(connection, "page_count"):  # later it has no effect, and writes
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_MAX_WAL_BYTES}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what was deleted is not there any more
        num_pages = pragma(connection, "page_count")
        if num_pages * pragma(connection, "page_size") <= _MAX_CHECKED_BYTES:
            [finding] = connection.execute("PRAGMA quick_check(1)").fetchone()
            if finding != "ok":
                raise DamagedFile(" ".join(finding.split()))

    def _migrate(self, connection: sqlite3.Connection) -> None:
        newest = len(self.migrations)
        if pragma(connection, "user_version") == newest:
            return
        with transaction(connection):
            version = pragma(connection, "user_version")
            if version > newest:
                raise BadDatabase(
                    f"{self.path} is of version {version}, and this program knows versions up to "
                    f"{newest}: a newer one has written it. Use that one, or another --state-dir."
                )
            for script in self.migrations[version:]:
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {newest}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Committed at the end, or rolled back where that was not reached."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # where the disk is full SQLite may have ended it itself
            connection.execute("ROLLBACK")
        raise


def pragma(connection: sqlite3.Connection, name: str) -> int:
    [value] = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def num_used_bytes(connection: sqlite3.Connection) -> int:
    """What would be left of the file without its free pages, and the log beside it."""
    num_pages = pragma(connection, "page_count") - pragma(connection, "freelist_count")
    return num_pages * pragma(connection, "page_size")


@contextlib.contextmanager
def opened(path: Path, migrations: Sequence[str]) -> Iterator[sqlite3.Connection]:
    """A connection for a command: what is done with it is one transaction, on the disk
    before this ends. A damaged file is refused.

    Raises what `DatabaseFile.connect` does, and `StorageFailed` where the disk or another
    process is in the way.
    """
    file = DatabaseFile(path=path, migrations=migrations)
    connection = file.connect()
    try:
        with failures_named(file.name):
            connection.execute("PRAGMA synchronous = FULL")
            with transaction(connection):
                yield connection
    except DamagedFile as damage:
        raise BadDatabase(f"{path} is damaged ({damage}): restore it from a copy.") from damage
    finally:
        connection.close()


def _make_private(path: Path) -> None:
    """What SQLite writes beside a file has the file's own permissions."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        # not opened: closing it would take the locks of this process's other connections
        with contextlib.suppress(PermissionError):  # of another user: SQLite tells if it matters
            path.chmod(0o600)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be opened: {error.strerror}.") from error


def _file_id(path: Path) -> _FileId | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _statements(script: str) -> Iterator[str]:
    """`executescript` would commit what came before."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    assert not statement.strip(), f"a statement without an end: {statement}"
