"""Files and batches as the rest of the server sees them.

Knows no wire format: whoever does hands it over.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.errors import ApplianceError
from appliance.gateway.batches.files import FileStore
from appliance.gateway.batches.line_format import LineFormat
from appliance.gateway.batches.paging import PageQuery
from appliance.gateway.batches.records import Batch, NewBatch, Page
from appliance.gateway.batches.runner import BatchRunner, Surroundings
from appliance.gateway.batches.schema import MIGRATIONS
from appliance.gateway.batches.store import BatchStore

INPUT_PURPOSE = "batch"
_RESTART_S = 30.0  # after what nobody foresaw

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchPlace:
    """Where they are kept."""

    database: Database
    folder: Path  # of the files
    budget_bytes: int  # for all callers' files together
    lock: int | None = None  # a descriptor: while it is open, no other process has them


class Batches:
    """All callers'."""

    def __init__(self, place: BatchPlace, now_s: Callable[[], float] = time.time) -> None:
        self._database = place.database
        self._lock = place.lock
        self.files = FileStore(
            place.database, place.folder, budget_bytes=place.budget_bytes, now_s=now_s
        )
        self.store = BatchStore(place.database, now_s)
        self._runner: BatchRunner | None = None

    @property
    def num_waiting_lines(self) -> int:
        """Of all batches: not answered yet."""
        return 0 if self._runner is None else self._runner.num_waiting

    def be_answered(self, line_format: LineFormat, surroundings: Surroundings) -> None:
        """Before `run`."""
        self._runner = BatchRunner(self.store, self.files, line_format, surroundings)

    async def prepare(self) -> None:
        """Before any file may come. Raises `StorageFailed`."""
        await self.files.remove_strays()

    async def run(self) -> None:
        """Answers batches until this is cancelled."""
        assert self._runner is not None, "somebody has to know how lines are answered"
        while True:
            try:
                await self._runner.run()
            except Exception:  # noqa: BLE001  # logged; all that matters is in the database
                _log.exception("batches are not answered for %g s", _RESTART_S)
                await asyncio.sleep(_RESTART_S)

    async def create(self, new: NewBatch) -> Batch:
        """Raises as `BatchStore.create` does."""
        batch = await self.store.create(new, INPUT_PURPOSE)
        self._wake()
        return batch

    async def find(self, caller_id: str, batch_id: str) -> Batch:
        """Raises `NotFound`, also for another caller's."""
        return await self.store.find(caller_id, batch_id)

    async def page(self, caller_id: str, query: PageQuery) -> Page[Batch]:
        """Raises `BadRequest` where there is no such page."""
        return await self.store.page(caller_id, query)

    async def cancel(self, caller_id: str, batch_id: str) -> Batch:
        """Raises as `BatchStore.cancel` does."""
        batch = await self.store.cancel(caller_id, batch_id)
        self._wake()
        return batch

    async def delete_file(self, caller_id: str, file_id: str) -> None:
        """Raises as `FileStore.delete` does."""
        await self.files.delete(caller_id, file_id)
        self._wake()  # there may be room for results again

    async def close(self) -> None:
        await self._database.close()
        if self._lock is not None:
            os.close(self._lock)

    def _wake(self) -> None:
        if self._runner is not None:
            self._runner.wake()


def open_batches(state_dir: Path, budget_bytes: int) -> Batches | None:
    """Those below `state_dir`; None where there is no budget for files, another process
    has them, or they cannot be opened, which is logged.
    """
    if budget_bytes == 0:
        return None
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = _lock(state_dir / "files.lock")
        if lock is None:
            _log.warning(
                "another server has the files and batches in %s: there are none here", state_dir
            )
            return None
        database = Database(
            state_dir / "batches.sqlite", MIGRATIONS, when_damaged=WhenDamaged.SET_ASIDE
        )
    except (OSError, ApplianceError) as error:
        _log.warning("there are no files and batches here: %s", error)
        return None
    return Batches(
        BatchPlace(
            database=database, folder=state_dir / "files", budget_bytes=budget_bytes, lock=lock
        )
    )


def _lock(path: Path) -> int | None:
    """None where another process has it: two would answer each line twice."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
