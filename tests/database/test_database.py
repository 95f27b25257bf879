"""Transactions, what is only submitted, and what becomes of both when the disk is full,
another process writes, or the process dies.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from appliance.database.database import MAX_SUBMITTED, Database
from appliance.database.files import WhenDamaged, opened, pragma
from appliance.errors import StorageBusy, StorageFailed, StorageFull
from tests.database.writer import MIGRATIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "numbers.sqlite"


@pytest.fixture
async def database(path: Path) -> AsyncGenerator[Database, None]:
    database = Database(path, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    yield database
    await database.close()


def add(connection: sqlite3.Connection, number: int, num_bytes: int = 0) -> None:
    connection.execute("INSERT INTO numbers VALUES (?, ?)", (number, b"x" * num_bytes))


def read(connection: sqlite3.Connection) -> list[int]:
    return [row["number"] for row in connection.execute("SELECT number FROM numbers")]


def start_writer(path: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.database.writer", str(path), *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# --- transactions ---------------------------------------------------------------------


async def test_work_that_raises_leaves_nothing(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        add(connection, 1)
        raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        await database.run(half)
    with pytest.raises(sqlite3.IntegrityError):
        await database.run(lambda connection: [add(connection, 2), add(connection, 2)])
    assert await database.run(read) == []


async def test_what_was_submitted_is_seen_by_who_comes_after(database: Database) -> None:
    database.submit(lambda connection: add(connection, 1))
    database.submit(lambda connection: add(connection, 2))
    assert await database.run(read) == [1, 2]


async def test_what_was_submitted_is_written_though_nobody_asks(database: Database) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    database.submit(lambda connection: loop.call_soon_threadsafe(done.set) and None)
    await done.wait()
    assert database.num_lost == 0


async def test_closing_writes_what_was_submitted(path: Path, database: Database) -> None:
    database.submit(lambda connection: add(connection, 7))
    await database.close()
    with opened(path, MIGRATIONS) as connection:
        assert read(connection) == [7]
    with pytest.raises(StorageFailed, match=r"numbers\.sqlite is closed"):
        await database.run(read)
    database.submit(lambda connection: add(connection, 8))
    assert database.num_lost == 1


async def test_one_at_fault_costs_none_of_the_others(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 1, 2, 2, 3):
        database.submit(lambda connection, number=number: add(connection, number))
    assert await database.run(read) == [1, 2, 3]
    assert database.num_lost == 2
    [record] = caplog.records
    assert (record.levelno, "UNIQUE" in record.getMessage()) == (logging.ERROR, True)


async def test_no_more_wait_than_the_queue_holds(database: Database) -> None:
    is_held, may_go = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        is_held.set()
        may_go.wait()

    holding = asyncio.create_task(database.run(hold))
    await asyncio.to_thread(is_held.wait)
    for number in range(MAX_SUBMITTED + 3):
        database.submit(lambda connection, number=number: add(connection, number))
    assert database.num_lost == 3
    may_go.set()
    await holding
    assert len(await database.run(read)) == MAX_SUBMITTED
    database.submit(lambda connection: add(connection, -1))
    assert (await database.run(read))[0] == -1


async def test_a_database_in_memory_leaves_no_file(tmp_path: Path) -> None:
    database = Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    await database.run(lambda connection: add(connection, 1))
    assert await database.run(read) == [1]
    await database.close()
    assert [*tmp_path.iterdir()] == []


# --- the disk -------------------------------------------------------------------------


async def test_a_full_disk_is_said_and_what_was_there_stays(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.run(lambda connection: add(connection, 1))
    await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 6"))
    with pytest.raises(StorageFull, match=r"no room left for numbers\.sqlite") as raised:
        await database.run(lambda connection: add(connection, 2, 100_000))
    assert raised.value.status == 507
    for number in (3, 4):
        database.submit(lambda connection, number=number: add(connection, number, 100_000))
    assert await database.run(read) == [1]
    assert database.num_lost == 2
    database.submit(lambda connection: add(connection, 5, 100_000))
    assert await database.run(read) == [1]
    assert (database.num_lost, len(caplog.records)) == (3, 1)
    await database.run(lambda connection: connection.execute("PRAGMA max_page_count = 9999"))
    await database.run(lambda connection: add(connection, 2, 100_000))
    assert await database.run(read) == [1, 2]


async def test_bytes_that_were_deleted_are_given_back(database: Database) -> None:
    def num_pages(connection: sqlite3.Connection) -> int:
        return pragma(connection, "page_count")

    empty = await database.run(num_pages)
    await database.run(lambda connection: add(connection, 1, 2 << 20))
    assert await database.run(num_pages) > empty + 511
    await database.run(lambda connection: connection.execute("DELETE FROM numbers"))
    for _ in range(3):
        await database.run(read)
    assert await database.run(num_pages) == empty


# --- other processes ------------------------------------------------------------------


async def test_a_process_that_was_killed_leaves_what_it_had_committed(path: Path) -> None:
    with start_writer(path, "numbers", "0", "1000000") as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(50)]
        writer.kill()
        told += [int(line) for line in writer.stdout]
    with opened(path, MIGRATIONS) as connection:
        numbers = read(connection)
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert told == [*range(len(told))]
    # one may be committed that it could not tell any more
    assert numbers in (told, [*told, len(told)])


async def test_two_processes_write_at_once(path: Path, database: Database) -> None:
    with start_writer(path, "numbers", "1000", "100") as writer:
        for number in range(100):
            await database.run(lambda connection, number=number: add(connection, number))
        writer.communicate()
    assert writer.returncode == 0
    assert await database.run(read) == [*range(100), *range(1000, 1100)]


async def test_who_waits_too_long_for_another_process_is_told(
    path: Path, database: Database
) -> None:
    await database.run(lambda connection: connection.execute("PRAGMA busy_timeout = 10"))
    with start_writer(path, "hold") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "held\n"
        with pytest.raises(StorageBusy, match=r"Another process .* numbers\.sqlite") as raised:
            await database.run(read)
        assert (raised.value.status, raised.value.retry_after_s) == (503, 5)
        assert writer.communicate("go\n")[0] == "done\n"
    assert await database.run(read) == [1000]
