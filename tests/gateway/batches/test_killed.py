"""A server that is killed at whatever step answers no recorded line again, and leaves
none out.

A kill is looked at from outside: at each step of a batch, before and after what it writes
is committed, the folder is copied as it is; another server goes on from the copy.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from appliance.database.database import Database, Work
from appliance.database.files import WhenDamaged
from appliance.gateway.batches.records import UNFINISHED, Batch, BatchStatus
from appliance.gateway.batches.schema import MIGRATIONS
from tests.gateway.batches.house import ANN, AWAIT_S, DATABASE, BatchHouse, Words

WORDS = ("one", "two!", "three", "four", "five")


class MortalDatabase(Database):
    """Dies with its process at the step of this number, counted from 1 once `armed`;
    `is_committed`: after what the step writes.
    """

    def __init__(self, folder: Path, copy: Path, *, step: int, is_committed: bool) -> None:
        super().__init__(folder / DATABASE, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
        self.is_armed = False
        self.is_dead = asyncio.Event()
        self._folder, self._copy = folder, copy
        self._step, self._is_committed = step, is_committed
        self._num_steps = 0

    async def run(self, work: Work[Any]) -> Any:
        if not self.is_armed:
            return await super().run(work)
        self._num_steps += 1
        is_last = self._num_steps == self._step
        if self.is_dead.is_set() or (is_last and not self._is_committed):
            await self._die()
        result = await super().run(work)
        if is_last:
            await self._die()
        return result

    async def _die(self) -> None:
        if not self.is_dead.is_set():
            shutil.copytree(self._folder, self._copy)
            self.is_dead.set()
        await asyncio.Event().wait()  # nothing happens any more


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("ending", ["answered", "cancelled", "expired"])
async def test_a_kill_at_any_step(tmp_path: Path, ending: str, is_committed: bool) -> None:
    step = 0
    is_over = False
    while not is_over:
        step += 1
        folder = tmp_path / f"{step}"
        copy = tmp_path / f"{step} killed"
        database = MortalDatabase(folder, copy, step=step, is_committed=is_committed)
        house = BatchHouse(folder, database=database)
        batch = await house.create("\n".join(WORDS).encode())
        is_over = await _run_until_dead(house, database, batch, ending)
        database.is_armed = False
        await house.batches.close()
        if not is_over:
            await _go_on(copy, batch, ending)
    assert step > 12  # of so many transactions at least


async def _run_until_dead(
    house: BatchHouse, database: MortalDatabase, batch: Batch, ending: str
) -> bool:
    """True if it ended before."""
    database.is_armed = True
    if ending == "expired":
        house.words.gate.clear()
    running = asyncio.create_task(house.batches.run())
    works = [database.is_dead.wait(), _ended(house, database, batch, ending)]
    tasks = [asyncio.create_task(work) for work in works]
    await asyncio.wait(tasks, timeout=AWAIT_S, return_when=asyncio.FIRST_COMPLETED)
    is_over = not tasks[0].done()
    for task in (running, *tasks):
        task.cancel()
    await asyncio.gather(running, *tasks, return_exceptions=True)
    return is_over


async def _ended(house: BatchHouse, database: MortalDatabase, batch: Batch, ending: str) -> None:
    if ending != "answered":
        await house.words.has_begun.wait()
    if ending == "cancelled":
        await house.batches.cancel(ANN.id, batch.id)
    if ending == "expired":
        house.clock_s = batch.expires_at
        house.words.gate.set()
    while not await Database.run(database, _has_ended):  # looking is no step
        pass


def _has_ended(connection: sqlite3.Connection) -> bool:
    [status] = connection.execute("SELECT status FROM batches").fetchone()
    return BatchStatus(status) not in UNFINISHED


async def _go_on(copy: Path, batch: Batch, ending: str) -> None:
    recorded = _recorded(copy)
    words = Words()
    house = BatchHouse(copy, words)
    if ending == "expired":
        house.clock_s = batch.expires_at
    async with house.running():
        batch = await house.ended(batch)
        output, errors = await house.lines(batch)
        left = {path.name for path in house.folder.iterdir()}
    assert not recorded & words.num_answers.keys()
    assert all(count == 1 for count in words.num_answers.values())
    ids = (batch.input_file_id, batch.output_file_id, batch.error_file_id)
    assert left == {each for each in ids if each}
    if ending == "answered" or batch.status is BatchStatus.COMPLETED:
        assert output == ["/echo one", "/echo three", "/echo four", "/echo five"]
        assert errors == ["/echo two!"]
    else:
        words_of = [line.removeprefix("/echo ").partition(":")[0] for line in (*output, *errors)]
        assert sorted(words_of) == (sorted(WORDS) if batch.num_lines else [])
        assert len(output) == batch.num_completed
        assert recorded <= {line.removeprefix("/echo ") for line in (*output, *errors)}


def _recorded(folder: Path) -> set[str]:
    """The lines with a result; all, where they are in the result files already."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        done = connection.execute("SELECT custom_id FROM lines WHERE result IS NOT NULL")
        recorded = {row[0] for row in done}
        [status] = connection.execute("SELECT status FROM batches").fetchone()
    return {*WORDS} if status == "completed" else recorded
