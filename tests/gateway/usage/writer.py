"""A process that counts requests into the folder named by its argument: prints how many are
on the disk after a second, counts as many again, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import FILE_NAME, MIGRATIONS
from tests.gateway.usage.summaries import answered

_NUM = 100


def num_on_disk(path: Path) -> int:
    """As another process sees it."""
    connection = sqlite3.connect(path)
    (num,) = connection.execute("SELECT count(*) FROM requests").fetchone()
    connection.close()
    return int(num)


async def main(folder: Path) -> None:
    path = folder / FILE_NAME
    log = UsageLog(UsageFile(Database(path, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)))
    for _ in range(_NUM):
        log.request_ended(answered())
    while (num := num_on_disk(path)) < _NUM:
        await asyncio.sleep(0.01)
    for _ in range(_NUM):
        log.request_ended(answered())
    print(num, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
