"""Batches in a folder, of lines that are plain words, and a made-up clock.

Knows no expectations: those are in the tests.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.batches.batches import INPUT_PURPOSE, Batches, BatchPlace
from appliance.gateway.batches.line_format import BadLine
from appliance.gateway.batches.records import UNFINISHED, Batch, LineResult, NewBatch
from appliance.gateway.batches.runner import Surroundings
from appliance.gateway.batches.schema import MIGRATIONS
from appliance.gateway.foreground import Foreground

ANN = Caller("ann")
START_S = 1_700_000_000
DATABASE = "batches.sqlite"
AWAIT_S = 30.0


class Words:
    """A line is a word and its own id: one with a question mark is none, the answer to one
    with an exclamation mark is a failure. Implements `LineFormat`.
    """

    max_line_bytes = 20

    def __init__(self) -> None:
        self.num_answers: Counter[str] = Counter()
        self.num_at_once = 0
        self.most_at_once = 0
        self.expected_at_once = 1  # of answers, for `has_begun`
        self.gate = asyncio.Event()  # while it is not set, no answer ends
        self.gate.set()
        self.has_begun = asyncio.Event()
        self.errors: list[Exception] = []  # raised first, one by each answer
        self.callers: list[Caller] = []

    def custom_id(self, line: bytes, endpoint: str) -> str:
        if b"?" in line:
            raise BadLine("not_a_word", "It asks.", "word")
        return line.decode()

    async def answer(self, caller: Caller, endpoint: str, line: bytes) -> LineResult:
        self.num_answers[line.decode()] += 1
        self.callers.append(caller)
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        if self.num_at_once == self.expected_at_once:
            self.has_begun.set()
        try:
            await self.gate.wait()
        finally:
            self.num_at_once -= 1
        if self.errors:
            raise self.errors.pop(0)
        return LineResult(endpoint.encode() + b" " + line, is_failure=b"!" in line)

    def unanswered(self, custom_id: str, code: str, message: str) -> bytes:
        return f"{custom_id}: {code}".encode()


class BatchHouse:
    """`folder` may have been another one's before."""

    def __init__(
        self,
        folder: Path,
        words: Words | None = None,
        *,
        budget_bytes: int = 1 << 20,
        database: Database | None = None,
        num_at_once: int = 2,
    ) -> None:
        self.words = words or Words()
        self.foreground = Foreground()
        self.clock_s = float(START_S)
        self.pauses_s: list[float] = []
        self.folder = folder / "files"
        self.batches = Batches(
            BatchPlace(
                database=database
                or Database(folder / DATABASE, MIGRATIONS, when_damaged=WhenDamaged.REFUSE),
                folder=self.folder,
                budget_bytes=budget_bytes,
            ),
            now_s=lambda: self.clock_s,
        )
        self.batches.be_answered(
            self.words,
            Surroundings(
                foreground=self.foreground,
                num_at_once=lambda: num_at_once,
                now_s=lambda: self.clock_s,
                pause=self._pause,
            ),
        )

    async def _pause(self, pause_s: float) -> None:
        self.pauses_s.append(pause_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.batches.prepare()
        task = asyncio.create_task(self.batches.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.batches.close()

    async def upload(self, content: bytes, caller: Caller = ANN, **how: int) -> str:
        async with self.batches.files.receiving() as upload:
            await upload.write(content)
            file = await self.batches.files.keep(
                upload, caller_id=caller.id, name="words.txt", purpose=INPUT_PURPOSE, **how
            )
        return file.id

    async def create(self, content: bytes, caller: Caller = ANN, window_s: int = 86_400) -> Batch:
        return await self.create_of(await self.upload(content, caller), caller, window_s)

    async def create_of(self, file_id: str, caller: Caller = ANN, window_s: int = 86_400) -> Batch:
        return await self.batches.create(
            NewBatch(
                caller_id=caller.id,
                endpoint="/echo",
                input_file_id=file_id,
                completion_window="24h",
                window_s=window_s,
            )
        )

    async def ended(self, batch: Batch) -> Batch:
        """What becomes of it."""

        async def wait() -> Batch:
            while True:
                found = await self.batches.find(batch.caller_id, batch.id)
                if found.status not in UNFINISHED:
                    return found

        return await asyncio.wait_for(wait(), AWAIT_S)

    async def lines(self, batch: Batch) -> tuple[list[str], list[str]]:
        """Of its output and of its errors."""
        ids = (batch.output_file_id, batch.error_file_id)
        output, errors = [
            [] if each is None else (self.folder / each).read_text().splitlines() for each in ids
        ]
        return output, errors
