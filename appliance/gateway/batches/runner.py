"""Answers the lines of batches, a few at a time, when nobody else wants the machine.

Knows no wire format and no table.

Batches are answered one after the other, the oldest first, so that models take turns
as seldom as can be. A line is begun only while there is no request in the foreground;
one that has begun gives way to such a request by itself (see `LineFormat`). What a line
brought is recorded before anything else happens to its batch: whenever this ends,
recorded lines stay answered, and those that were being answered are answered anew.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from appliance.errors import ApplianceError, QueueFull, RateLimited, ShuttingDown, Unavailable
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.batches.files import FileStore
from appliance.gateway.batches.line_format import LineFormat
from appliance.gateway.batches.partial_file import disk_failures
from appliance.gateway.batches.reading import read_line, read_lines
from appliance.gateway.batches.records import Batch, BatchStatus, Line, LineResult
from appliance.gateway.batches.results import ResultWriter
from appliance.gateway.batches.store import BatchStore
from appliance.gateway.foreground import Foreground

_log = logging.getLogger(__name__)

SWEEP_S = 600.0  # how often what is too old is removed, and room is looked for again
MAX_ATTEMPTS = 5  # to answer a line, while its model cannot be asked
_PAUSE_S = 5.0  # between them, where the error does not say how long
_Key = tuple[str, int]  # a batch and the number of a line


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a runner sees of the world."""

    foreground: Foreground
    num_at_once: Callable[[], int]  # lines, as the loaded models have slots
    now_s: Callable[[], float] = time.time
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


class BatchRunner:
    """One for each database."""

    def __init__(
        self,
        store: BatchStore,
        files: FileStore,
        line_format: LineFormat,
        surroundings: Surroundings,
    ) -> None:
        self._store = store
        self._files = files
        self._lines = line_format
        self._around = surroundings
        self._writer = ResultWriter(store, files, line_format.unanswered)
        self._running: dict[_Key, asyncio.Task[None]] = {}
        self._limited_until_s: dict[str, float] = {}  # by callers who are over their limits
        self._has_news = asyncio.Event()
        self._swept_s = -math.inf
        self.num_waiting = 0  # lines that are not answered yet

    def wake(self) -> None:
        """A batch was made or cancelled, or a line was answered."""
        self._has_news.set()

    async def run(self) -> None:
        """Until this is cancelled: then lines that are being answered are given up."""
        try:
            while True:
                self._has_news.clear()
                await self._sweep()
                batches = await self._in_progress()
                self.num_waiting = sum(batch.num_undone for batch in batches)
                is_yielding = self._around.foreground.is_present
                if not is_yielding:
                    await self._begin_lines(batches)
                await self._until_news(batches, is_yielding=is_yielding)
        finally:
            await self._stop(list(self._running))

    async def _sweep(self) -> None:
        now_s = self._around.now_s()
        if now_s < self._swept_s + SWEEP_S:
            return
        self._swept_s = now_s
        try:
            await self._files.sweep()
            await self._store.sweep()
        except ApplianceError as error:
            _log.error("what is too old could not be removed: %s", error.message)

    async def _in_progress(self) -> list[Batch]:
        """Those with lines to be answered, once all that needs no computing is done."""
        in_progress = []
        for batch in await self._store.unfinished():
            try:
                settled = await self._settled(batch)
            except ApplianceError as error:
                # the disk is full, say: the other batches go on, and this one is tried again
                _log.error("the batch %s does not get on: %s", batch.id, error.message)
                continue
            if settled.status is BatchStatus.IN_PROGRESS:
                in_progress.append(settled)
        return in_progress

    # --- without computing ------------------------------------------------------------

    async def _settled(self, batch: Batch) -> Batch:
        """As far as it comes without anything being computed."""
        if batch.status is BatchStatus.VALIDATING:
            batch = await self._validated(batch)
        if batch.status is BatchStatus.IN_PROGRESS and (
            batch.num_undone == 0 or self._around.now_s() >= batch.expires_at
        ):
            await self._stop([key for key in self._running if key[0] == batch.id])
            batch = await self._store.finalize(batch)
        if batch.status is BatchStatus.CANCELLING:
            await self._stop([key for key in self._running if key[0] == batch.id])
        if batch.status in (BatchStatus.FINALIZING, BatchStatus.CANCELLING):
            batch = await self._writer.end(batch)
            _log.info(
                "the batch %s is %s: %d lines answered, %d failed, of %d",
                batch.id,
                batch.status.value,
                batch.num_completed,
                batch.num_failed,
                batch.num_lines,
            )
        return batch

    async def _validated(self, batch: Batch) -> Batch:
        path = self._files.path_of(batch.input_file_id)
        with disk_failures():
            read = await asyncio.to_thread(read_lines, path, batch.endpoint, self._lines)
        if read.faults:
            return await self._store.refuse(batch, read.faults)
        return await self._store.begin(batch, read.lines)

    async def _stop(self, keys: list[_Key]) -> None:
        tasks = [self._running.pop(key) for key in keys]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- computing --------------------------------------------------------------------

    async def _begin_lines(self, batches: list[Batch]) -> None:
        num_free = self._around.num_at_once() - len(self._running)
        now_s = self._around.now_s()
        for batch in batches:
            if self._limited_until_s.get(batch.caller_id, 0.0) > now_s:
                continue
            if num_free <= 0 or not await self._files.has_room():
                return
            running = [number for batch_id, number in self._running if batch_id == batch.id]
            for line in await self._store.undone(batch, running, num_free):
                task = asyncio.create_task(self._answer(batch, line), name=f"line of {batch.id}")
                self._running[batch.id, line.number] = task
                num_free -= 1

    async def _answer(self, batch: Batch, line: Line) -> None:
        try:
            result = await self._result(batch, line)
            await self._store.record(batch, line, result)
        except RateLimited as error:
            # it stays unanswered, and others' lines are not in its way
            wait_s = error.retry_after_s or _PAUSE_S
            self._limited_until_s[batch.caller_id] = self._around.now_s() + wait_s
        except ApplianceError as error:
            # it could not be read or recorded: it stays unanswered, and is tried again
            _log.error("line %d of the batch %s: %s", line.number, batch.id, error.message)
            await self._around.pause(_PAUSE_S)
        finally:
            if self._running.get((batch.id, line.number)) is asyncio.current_task():
                del self._running[batch.id, line.number]
            self.wake()

    async def _result(self, batch: Batch, line: Line) -> LineResult:
        path = self._files.path_of(batch.input_file_id)
        with disk_failures():
            text = await asyncio.to_thread(read_line, path, line)
        caller = Caller(batch.caller_id, yields=True)
        num_attempts = 0
        while True:
            await self._around.foreground.until_absent()
            num_attempts += 1
            try:
                return await self._lines.answer(caller, batch.endpoint, text)
            except (ShuttingDown, RateLimited):
                raise
            except (Unavailable, QueueFull) as error:
                if num_attempts == MAX_ATTEMPTS:
                    failed = self._lines.unanswered(line.custom_id, error.code, error.message)
                    return LineResult(failed, is_failure=True)
                await self._around.pause(error.retry_after_s or _PAUSE_S)

    async def _until_news(self, batches: list[Batch], *, is_yielding: bool) -> None:
        """Or until a batch expires, its caller may go on, or it is time to sweep.
        `is_yielding`: also the end of the foreground is news.
        """
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(self._has_news.wait())]
        if is_yielding:
            waiting.append(asyncio.create_task(self._around.foreground.until_absent()))
        now_s = self._around.now_s()
        limited = {until_s - now_s for until_s in self._limited_until_s.values() if until_s > now_s}
        left_s = min([SWEEP_S, *limited, *(batch.expires_at - now_s for batch in batches)])
        try:
            await asyncio.wait(
                waiting, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in waiting:
                task.cancel()
