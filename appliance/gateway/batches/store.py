"""Batches and their lines in the database: each step of a batch is one transaction.

Knows no file's bytes, no wire format, and nothing of when a line is answered.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from appliance.database.database import Database
from appliance.errors import BadRequest, NotFound, QueueFull
from appliance.gateway.batches.files import LIFETIME_S, find_file
from appliance.gateway.batches.paging import PageQuery, page_of
from appliance.gateway.batches.records import (
    Batch,
    BatchStatus,
    DoneLine,
    Line,
    LineFault,
    LineResult,
    NewBatch,
    Page,
    StoredFile,
)
from appliance.gateway.batches.schema import UNFINISHED_SQL, batch_of, insert_file

MAX_UNFINISHED = 128  # of one caller
KEPT_S = 90 * 86_400  # how long a batch that has ended is known


class BatchStore:
    """All callers' batches."""

    def __init__(self, database: Database, now_s: Callable[[], float]) -> None:
        self._database = database
        self._now_s = now_s

    # --- one caller's -----------------------------------------------------------------

    async def create(self, new: NewBatch, input_purpose: str) -> Batch:
        """Raises `NotFound` where the caller has no such input file, `BadRequest` where it
        has another purpose, and `QueueFull` where too many of the caller's batches have not
        ended.
        """
        now_s = int(self._now_s())
        batch_id = f"batch_{secrets.token_hex(12)}"
        lifetime_s = LIFETIME_S if new.output_lifetime_s is None else new.output_lifetime_s

        def work(connection: sqlite3.Connection) -> Batch:
            file = find_file(connection, new.caller_id, new.input_file_id, "input_file_id")
            if file.purpose != input_purpose:
                raise BadRequest(
                    f"The file's purpose is '{file.purpose}'; that of a batch's input is "
                    f"'{input_purpose}'.",
                    param="input_file_id",
                )
            _check_unfinished(connection, new.caller_id)
            connection.execute(
                "INSERT INTO batches (id, caller, endpoint, input_file, completion_window, "
                "metadata, output_lifetime_s, status, created_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(batch_id, new.caller_id, new.endpoint, file.id, new.completion_window),
                    *(_json(new.metadata), lifetime_s, BatchStatus.VALIDATING.value),
                    *(now_s, now_s + new.window_s),
                ),
            )
            return _found(connection, batch_id, new.caller_id)

        return await self._database.run(work)

    async def find(self, caller_id: str, batch_id: str) -> Batch:
        """Raises `NotFound`, also for another caller's."""
        return await self._database.run(lambda connection: _found(connection, batch_id, caller_id))

    async def page(self, caller_id: str, query: PageQuery) -> Page[Batch]:
        return await self._database.run(
            lambda connection: page_of(connection, "batches", caller_id, query, batch_of)
        )

    async def cancel(self, caller_id: str, batch_id: str) -> Batch:
        """Raises `NotFound`, and `BadRequest` where it has ended, or nearly."""

        def work(connection: sqlite3.Connection) -> Batch:
            batch = _found(connection, batch_id, caller_id)
            if batch.status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
                return batch
            if batch.status not in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
                raise BadRequest(
                    f"A batch that is {batch.status.value} cannot be cancelled.", param="batch_id"
                )
            return self._moved(connection, batch, BatchStatus.CANCELLING)

        return await self._database.run(work)

    # --- steps ------------------------------------------------------------------------

    async def unfinished(self) -> list[Batch]:
        """The oldest first."""

        def work(connection: sqlite3.Connection) -> list[Batch]:
            rows = connection.execute(
                f"SELECT * FROM batches WHERE status IN {UNFINISHED_SQL} ORDER BY seq"
            )
            return [batch_of(row) for row in rows]

        return await self._database.run(work)

    async def refuse(self, batch: Batch, faults: Sequence[LineFault]) -> Batch:
        """What its file holds is no batch."""
        return await self._database.run(
            lambda connection: self._moved(
                connection, batch, BatchStatus.FAILED, faults=_json(faults)
            )
        )

    async def begin(self, batch: Batch, lines: Sequence[Line]) -> Batch:
        """Its lines are known, and may be answered."""

        def work(connection: sqlite3.Connection) -> Batch:
            moved = self._moved(connection, batch, BatchStatus.IN_PROGRESS, num_lines=len(lines))
            if moved.status is BatchStatus.IN_PROGRESS:
                connection.executemany(
                    "INSERT INTO lines (batch, number, position, num_bytes, custom_id) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (
                        (batch.id, line.number, line.position, line.num_bytes, line.custom_id)
                        for line in lines
                    ),
                )
            return moved

        return await self._database.run(work)

    async def undone(self, batch: Batch, but: Iterable[int], limit: int) -> list[Line]:
        """The next ones to be answered, without those `but` are being answered."""
        numbers = ", ".join(str(int(number)) for number in but)

        def work(connection: sqlite3.Connection) -> list[Line]:
            rows = connection.execute(
                "SELECT number, position, num_bytes, custom_id FROM lines WHERE batch = ? "
                f"AND result IS NULL AND number NOT IN ({numbers}) ORDER BY number LIMIT ?",
                (batch.id, limit),
            )
            return [Line(**row) for row in rows]

        return await self._database.run(work)

    async def record(self, batch: Batch, line: Line, result: LineResult) -> None:
        """Once and for all: from now on nothing is computed for this line."""
        counter = "num_failed" if result.is_failure else "num_completed"

        def work(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(
                "UPDATE lines SET result = ?, is_failure = ? "
                "WHERE batch = ? AND number = ? AND result IS NULL",
                (result.text, result.is_failure, batch.id, line.number),
            )
            assert cursor.rowcount == 1, "nobody else answers this line"
            connection.execute(
                f"UPDATE batches SET {counter} = {counter} + 1, "
                "num_result_bytes = num_result_bytes + ? WHERE id = ?",
                (len(result.text), batch.id),
            )

        await self._database.run(work)

    async def finalize(self, batch: Batch) -> Batch:
        """No line of it is answered any more."""
        return await self._database.run(
            lambda connection: self._moved(connection, batch, BatchStatus.FINALIZING)
        )

    async def lines(self, batch: Batch, after: int, limit: int) -> list[DoneLine]:
        """In their order, those with a greater number than `after`."""

        def work(connection: sqlite3.Connection) -> list[DoneLine]:
            rows = connection.execute(
                "SELECT number, custom_id, result, is_failure FROM lines "
                "WHERE batch = ? AND number > ? ORDER BY number LIMIT ?",
                (batch.id, after, limit),
            )
            return [_done_line(row) for row in rows]

        return await self._database.run(work)

    async def end(
        self,
        batch: Batch,
        status: BatchStatus,
        *,
        output: StoredFile | None,
        errors: StoredFile | None,
    ) -> Batch:
        """Its results are in these files, and nowhere else from now on."""

        def work(connection: sqlite3.Connection) -> Batch:
            assert batch.status in (BatchStatus.FINALIZING, BatchStatus.CANCELLING)
            for file in (output, errors):
                if file is not None:
                    insert_file(connection, file)
            connection.execute("DELETE FROM lines WHERE batch = ?", (batch.id,))
            return self._moved(
                connection,
                batch,
                status,
                output_file=None if output is None else output.id,
                error_file=None if errors is None else errors.id,
                num_result_bytes=0,
            )

        return await self._database.run(work)

    async def sweep(self) -> None:
        """Forgets batches that ended long ago."""
        before_s = int(self._now_s()) - KEPT_S
        await self._database.run(
            lambda connection: connection.execute(
                f"DELETE FROM batches WHERE status NOT IN {UNFINISHED_SQL} AND expires_at < ?",
                (before_s,),
            )
        )

    def _moved(
        self, connection: sqlite3.Connection, batch: Batch, status: BatchStatus, **columns: object
    ) -> Batch:
        """The batch with another status, which it takes on now; as it is where its client
        has cancelled it since.
        """
        current = _found(connection, batch.id)
        if current.status is not batch.status:
            return current
        reached = {**current.reached, status: int(self._now_s())}
        changed = {**columns, "status": status.value, "reached": _json(reached)}
        names = ", ".join(f"{name} = ?" for name in changed)
        connection.execute(
            f"UPDATE batches SET {names} WHERE id = ?", (*changed.values(), batch.id)
        )
        return _found(connection, batch.id)


def _found(connection: sqlite3.Connection, batch_id: str, caller_id: str | None = None) -> Batch:
    row = connection.execute("SELECT * FROM batches WHERE id = ?", (batch_id,)).fetchone()
    if row is None or (caller_id is not None and row["caller"] != caller_id):
        raise NotFound("There is no batch with this id.", param="batch_id")
    return batch_of(row)


def _check_unfinished(connection: sqlite3.Connection, caller_id: str) -> None:
    [num_unfinished] = connection.execute(
        f"SELECT COUNT(*) FROM batches WHERE caller = ? AND status IN {UNFINISHED_SQL}",
        (caller_id,),
    ).fetchone()
    if num_unfinished >= MAX_UNFINISHED:
        raise QueueFull(f"{num_unfinished} batches have not ended yet, which is the limit.")


def _done_line(row: sqlite3.Row) -> DoneLine:
    result = row["result"]
    return DoneLine(
        number=row["number"],
        custom_id=row["custom_id"],
        result=None if result is None else LineResult(result, bool(row["is_failure"])),
    )


def _json(value: Mapping[str, str] | Mapping[BatchStatus, int] | Sequence[LineFault] | None) -> str:
    return msgspec.json.encode(value).decode()
