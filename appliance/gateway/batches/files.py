"""Files that clients leave here, and those that batches leave for them: their bytes in a
folder, what is known of them in the database.

Knows no HTTP, and nothing of what is in a file.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.database.database import Database
from appliance.errors import BadRequest, BodyTooLarge, NotFound
from appliance.gateway.batches.paging import PageQuery, page_of
from appliance.gateway.batches.partial_file import PartialFile, disk_failures
from appliance.gateway.batches.records import Page, StoredFile
from appliance.gateway.batches.schema import UNFINISHED_SQL, file_of, insert_file

MAX_FILE_BYTES = 200 << 20  # OpenAI's bound on what a batch reads
LIFETIME_S = 30 * 86_400  # of a file for which no other is asked: OpenAI's
_BLOCK_BYTES = 4096  # what even an empty file takes


class Upload:
    """A client's file while it comes: see `FileStore.receiving`."""

    def __init__(self, partial: PartialFile, check: Callable[[int], None]) -> None:
        self.partial = partial
        self._check = check

    async def write(self, data: bytes) -> None:
        """Raises `BodyTooLarge` for more than there is room for, and
        `StorageFailed` where the disk is in the way.
        """
        self._check(len(data))
        await self.partial.write(data)


class FileStore:
    """All callers' files, which together with the results of batches in progress take at
    most `budget_bytes`.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        budget_bytes: int,
        max_file_bytes: int = MAX_FILE_BYTES,
        now_s: Callable[[], float],
    ) -> None:
        """`folder` is made when the first file comes."""
        self._database = database
        self._folder = folder
        self._budget_bytes = budget_bytes
        self.max_file_bytes = min(max_file_bytes, budget_bytes)
        self._now_s = now_s
        self._num_arriving_bytes = 0  # of all uploads in progress

    # --- one caller's -----------------------------------------------------------------

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[Upload]:
        """A file that is about to come; unless `keep` is called, nothing is left of it.

        Raises `BodyTooLarge` where there is no room for any, and `StorageFailed`.
        """
        budget_bytes = self._budget_bytes - await self._used_bytes()
        num_bytes = 0

        def check(num_more_bytes: int) -> None:
            nonlocal num_bytes
            num_bytes += num_more_bytes
            self._num_arriving_bytes += num_more_bytes
            self._check_room(num_bytes, budget_bytes)

        try:
            check(0)
            async with PartialFile(self._folder) as partial:
                yield Upload(partial, check)
        finally:
            self._num_arriving_bytes -= num_bytes

    def _check_room(self, num_bytes: int, budget_bytes: int) -> None:
        if num_bytes > self.max_file_bytes:
            raise BodyTooLarge(
                f"The file is larger than {self.max_file_bytes} bytes, which is the most that is "
                "taken here."
            )
        if self._num_arriving_bytes >= budget_bytes:
            raise BodyTooLarge(
                f"All files together may take {self._budget_bytes} bytes here (--files-bytes), and "
                "there is no room for this one: delete some, or wait until the oldest expire."
            )

    async def keep(
        self,
        upload: Upload,
        *,
        caller_id: str,
        name: str,
        purpose: str,
        lifetime_s: int | None = None,
    ) -> StoredFile:
        """From now on it is there. Raises `StorageFailed`."""
        file = self.new(
            caller_id=caller_id,
            name=name,
            purpose=purpose,
            num_bytes=upload.partial.num_bytes,
            lifetime_s=LIFETIME_S if lifetime_s is None else lifetime_s,
        )
        await upload.partial.finish(self.path_of(file.id))
        # an end in between leaves a stray
        await self._database.run(lambda connection: insert_file(connection, file))
        return file

    async def find(self, caller_id: str, file_id: str) -> StoredFile:
        """Raises `NotFound`, also for another caller's."""
        return await self._database.run(
            lambda connection: find_file(connection, caller_id, file_id)
        )

    async def page(self, caller_id: str, query: PageQuery, purpose: str | None) -> Page[StoredFile]:
        columns = {} if purpose is None else {"purpose": purpose}
        return await self._database.run(
            lambda connection: page_of(connection, "files", caller_id, query, file_of, **columns)
        )

    async def delete(self, caller_id: str, file_id: str) -> None:
        """Raises `NotFound`, and `BadRequest` where a batch still reads it."""

        def work(connection: sqlite3.Connection) -> None:
            file = find_file(connection, caller_id, file_id)
            reader = connection.execute(
                f"SELECT id FROM batches WHERE input_file = ? AND status IN {UNFINISHED_SQL}",
                (file.id,),
            ).fetchone()
            if reader is not None:
                raise BadRequest(
                    f"The file is read by the batch {reader['id']}, which has not ended: cancel "
                    "that first.",
                    param="file_id",
                )
            connection.execute("DELETE FROM files WHERE id = ?", (file.id,))

        await self._database.run(work)
        await self._unlink([file_id])

    # --- everybody's ------------------------------------------------------------------

    def path_of(self, file_id: str) -> Path:
        """Of a file that is known."""
        return self._folder / file_id

    def partial(self) -> PartialFile:
        """For a batch's results."""
        return PartialFile(self._folder)

    def new(
        self, *, caller_id: str, name: str, purpose: str, num_bytes: int, lifetime_s: int
    ) -> StoredFile:
        """A record with an id of its own, kept nowhere yet."""
        now_s = int(self._now_s())
        return StoredFile(
            id=f"file-{secrets.token_hex(12)}",
            caller_id=caller_id,
            name=name,
            purpose=purpose,
            num_bytes=num_bytes,
            created_at=now_s,
            expires_at=now_s + lifetime_s,
        )

    async def has_room(self) -> bool:
        """For more results."""
        return await self._used_bytes() < self._budget_bytes

    async def _used_bytes(self) -> int:
        def work(connection: sqlite3.Connection) -> int:
            [kept] = connection.execute(
                f"SELECT COALESCE(SUM(num_bytes + {_BLOCK_BYTES}), 0) FROM files"
            ).fetchone()
            [results] = connection.execute(
                "SELECT COALESCE(SUM(num_result_bytes), 0) FROM batches"
            ).fetchone()
            return int(kept) + int(results)

        return await self._database.run(work)

    async def sweep(self) -> None:
        """Removes what is too old, but for what a batch still reads."""
        now_s = int(self._now_s())
        old = (
            "FROM files WHERE expires_at <= ? AND id NOT IN "
            f"(SELECT input_file FROM batches WHERE status IN {UNFINISHED_SQL})"
        )

        def work(connection: sqlite3.Connection) -> list[str]:
            ids = [row["id"] for row in connection.execute(f"SELECT id {old}", (now_s,))]
            connection.execute(f"DELETE {old}", (now_s,))
            return ids

        await self._unlink(await self._database.run(work))

    async def remove_strays(self) -> None:
        """What an end without warning left in the folder. Nothing may be arriving."""

        def work(connection: sqlite3.Connection) -> set[str]:
            return {row["id"] for row in connection.execute("SELECT id FROM files")}

        known = await self._database.run(work)
        with disk_failures():
            found = await asyncio.to_thread(_names_in, self._folder)
        await self._unlink(name for name in found if name not in known)

    async def _unlink(self, names: Iterable[str]) -> None:
        def work() -> None:
            for name in names:
                (self._folder / name).unlink(missing_ok=True)

        with disk_failures():
            await asyncio.to_thread(work)


def find_file(
    connection: sqlite3.Connection, caller_id: str, file_id: str, param: str = "file_id"
) -> StoredFile:
    """`param`: where a request names it. Raises `NotFound`, also for another caller's."""
    row = connection.execute(
        "SELECT * FROM files WHERE id = ? AND caller = ?", (file_id, caller_id)
    ).fetchone()
    if row is None:
        raise NotFound("There is no file with this id.", param=param)
    return file_of(row)


def _names_in(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_file()]
    except FileNotFoundError:
        return []
