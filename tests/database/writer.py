"""A process that writes to the database named by its first argument, as the second says.

numbers FROM: commits FROM, FROM+1, … one by one, and prints each once it is committed,
              until it is killed or has committed as many as the last argument says
hold:         begins a transaction, prints "held", and commits when a line comes in
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

from appliance.database.database import Database
from appliance.database.files import WhenDamaged

MIGRATIONS = ("CREATE TABLE numbers (number INTEGER PRIMARY KEY, filling BLOB) STRICT;",)


async def write_numbers(path: Path, first: int, count: int) -> None:
    database = Database(path, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    for number in range(first, first + count):

        def write(connection: sqlite3.Connection, number: int = number) -> None:
            connection.execute("INSERT INTO numbers VALUES (?, ?)", (number, b"x" * 3000))

        await database.run(write)
        print(number, flush=True)
    await database.close()


def hold(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("held", flush=True)
    sys.stdin.readline()
    connection.execute("INSERT INTO numbers VALUES (1000, NULL)")
    connection.execute("COMMIT")
    connection.close()
    print("done", flush=True)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    if sys.argv[2] == "hold":
        hold(path)
    else:
        asyncio.run(write_numbers(path, int(sys.argv[3]), int(sys.argv[4])))
