"""A database that an event loop uses: one thread of its own does all the waiting.

Knows no table: work is a function of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from appliance.database.failures import DamagedFile, failures_named
from appliance.database.files import (
    DatabaseFile,
    Identity,
    WhenDamaged,
    pragma,
    transaction,
)
from appliance.errors import ApplianceError, BadDatabase, StorageFailed

_log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

MAX_SUBMITTED = 10_000  # waiting to be written
_GROUP_S = 1.0  # what was submitted is written at most so much later
_NUM_FREED_PAGES = 256  # given back to the disk after one transaction: a MiB


@dataclass(eq=False)
class _Job:
    """Work that somebody waits for; without work, the end."""

    work: Work[Any] | None
    done: Future[Any] = field(default_factory=Future)


class Database:
    """One SQLite file in WAL mode, touched by one thread of its own; the event loop never
    waits on the disk.
    """

    def __init__(
        self, path: Path | None, migrations: Sequence[str], *, when_damaged: WhenDamaged
    ) -> None:
        """`path`: None is in memory, and gone at the end. `migrations`: scripts; the n-th
        makes version n of version n-1.

        Raises `BadDatabase` where a newer program has written the file, or where it is
        damaged and to be refused, and `StorageFailed` where it cannot be opened.
        """
        file = DatabaseFile(path=path, migrations=migrations, when_damaged=when_damaged)
        self._name = file.name
        self._jobs: queue.SimpleQueue[_Job | Work[None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_waiting = 0  # of those submitted
        self._is_closed = False
        self._losses = _Losses(file.name)
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(file, opened), name=f"database {file.name}", daemon=True
        )
        self._thread.start()
        opened.result()

    @property
    def num_lost(self) -> int:
        """Submitted, and never written."""
        return self._losses.num_lost

    async def run(self, work: Work[T]) -> T:
        """What `work` returns: one transaction, committed then, or rolled back where it
        raises. It sees what was submitted before. Where the one that waits is cancelled,
        it may be committed all the same.

        Raises what `work` raises, and `StorageFull`, `StorageBusy` or `StorageFailed`
        where the disk or another process is in the way.
        """
        job = _Job(work)
        with self._lock:
            if self._is_closed:
                raise StorageFailed(f"{self._name} is closed: the server is shutting down.")
            self._jobs.put(job)
        result: T = await asyncio.wrap_future(job.done)
        return result

    def submit(self, work: Work[None]) -> None:
        """Has `work` done at most a second later, together with others, in the order of
        coming. Never waits and never raises: what cannot be kept or written is counted,
        and the first is logged.
        """
        with self._lock:
            is_taken = not self._is_closed and self._num_waiting < MAX_SUBMITTED
            if is_taken:
                self._num_waiting += 1
                self._jobs.put(work)
        if not is_taken:
            self._losses.add(1, "too much is waiting to be written, or it is closed")

    async def close(self) -> None:
        """Returns when what was submitted is written."""
        job = _Job(None)
        with self._lock:
            is_first, self._is_closed = not self._is_closed, True
            if is_first:
                self._jobs.put(job)
        if is_first:
            await asyncio.wrap_future(job.done)

    # --- on the thread ----------------------------------------------------------------

    def _serve(self, file: DatabaseFile, opened: Future[None]) -> None:
        try:
            connection = _Connection(file)
        except BaseException as error:  # noqa: BLE001  # whoever opens it is told
            opened.set_exception(error)
            return
        opened.set_result(None)
        group: list[Work[None]] = []
        until_s = 0.0  # when the group is written
        while True:
            try:
                wait_s = max(0.0, until_s - time.monotonic()) if group else None
                job = self._jobs.get(timeout=wait_s)
            except queue.Empty:
                self._write(connection, group)
                continue
            if not isinstance(job, _Job):
                until_s = until_s if group else time.monotonic() + _GROUP_S
                group.append(job)
                continue
            self._write(connection, group)
            if job.work is None:
                connection.close()
                job.done.set_result(None)
                return
            if job.done.set_running_or_notify_cancel():
                _settle(connection, job.work, job.done)

    def _write(self, connection: _Connection, group: list[Work[None]]) -> None:
        """All in one transaction; where one of them is at fault, each in its own."""
        if not group:
            return

        def write_all(raw: sqlite3.Connection) -> None:
            for work in group:
                work(raw)

        try:
            connection.run(write_all)
        except ApplianceError as error:
            self._losses.add(len(group), error.message)
        except Exception:  # noqa: BLE001  # named below, for the one that raises it
            for work in group:
                try:
                    connection.run(work)
                except Exception as error:  # noqa: BLE001  # counted, and the first is logged
                    self._losses.add(1, repr(error))
        with self._lock:
            self._num_waiting -= len(group)
        group.clear()


def _settle(connection: _Connection, work: Work[Any], done: Future[Any]) -> None:
    try:
        result = connection.run(work)
    except BaseException as error:  # noqa: BLE001  # it is raised where somebody waits for it
        done.set_exception(error)
    else:
        done.set_result(result)


class _Connection:
    """To the file, or to the one that stands in the place of a damaged one."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._raw: sqlite3.Connection | None = None
        self._identity: Identity | None = None  # of the file that is open
        self._connected()

    def run(self, work: Work[T]) -> T:
        try:
            raw = self._connected()
        except BadDatabase as error:  # its message is for whoever starts the server
            raise StorageFailed(f"{self._file.name} is damaged.") from error
        try:
            with failures_named(self._file.name):
                with transaction(raw):
                    result = work(raw)
                self._give_back(raw)
            return result
        except DamagedFile as damage:
            self.close()
            aside = self._file.set_aside(damage, self._identity)
            raise StorageFailed(
                f"{self._file.name} was damaged"
                + (", and what it held is lost: a new one is begun." if aside else ".")
            ) from damage

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _connected(self) -> sqlite3.Connection:
        """To what is at the path by now: somebody may have put a copy there, or another
        process a new file, and what is written to the old one is lost.
        """
        if self._raw is not None and self._file.is_gone(self._identity):
            self._file.abandon(self._raw, self._identity)
            self._raw = None
        if self._raw is None:
            self._raw = self._file.connect()
            self._identity = self._file.identity()
        return self._raw

    def _give_back(self, raw: sqlite3.Connection) -> None:
        """To the disk, a part of what was deleted. The transaction has been committed:
        where this fails, a later one will do it.
        """
        if pragma(raw, "freelist_count"):
            with contextlib.suppress(sqlite3.OperationalError):
                # each step frees one page, and `execute` takes only the first
                raw.executescript(f"PRAGMA incremental_vacuum({_NUM_FREED_PAGES})")


class _Losses:
    """What was submitted and not written: counted, and logged once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self.num_lost = 0

    def add(self, count: int, reason: str) -> None:
        with self._lock:
            is_first = not self.num_lost
            self.num_lost += count
        if is_first:
            _log.error("%s: not everything could be written: %s", self._name, reason)
