"""The result files of a batch that has ended, or is about to.

Knows no wire format and no schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appliance.gateway.batches.files import FileStore
from appliance.gateway.batches.partial_file import PartialFile
from appliance.gateway.batches.records import Batch, BatchStatus, DoneLine, StoredFile
from appliance.gateway.batches.store import BatchStore

RESULT_PURPOSE = "batch_output"  # OpenAI's
_LINES_AT_ONCE = 200

# What is written for lines that were not answered: OpenAI's codes.
_UNANSWERED = {
    BatchStatus.EXPIRED: (
        "batch_expired",
        "This request could not be answered before the batch's completion window was over.",
    ),
    BatchStatus.CANCELLED: (
        "batch_cancelled",
        "The batch was cancelled before this request was answered.",
    ),
}


@dataclass(frozen=True)
class ResultWriter:
    """Brings batches to their end. What an end without warning interrupts is done again
    from its beginning: until the batch has its files, nobody knows of them.
    """

    store: BatchStore
    files: FileStore
    unanswered: Callable[[str, str, str], bytes]  # see `LineFormat`

    async def end(self, batch: Batch) -> Batch:
        """`batch` is finalizing or being cancelled."""
        if batch.status is BatchStatus.CANCELLING:
            status = BatchStatus.CANCELLED
        else:
            status = BatchStatus.EXPIRED if batch.num_undone else BatchStatus.COMPLETED
        async with self.files.partial() as output, self.files.partial() as errors:
            number = 0
            while lines := await self.store.lines(batch, number, _LINES_AT_ONCE):
                for line in lines:
                    text, is_failure = self._text(line, status)
                    await (errors if is_failure else output).write(text + b"\n")
                number = lines[-1].number
            return await self.store.end(
                batch,
                status,
                output=await self._kept(batch, output, "output"),
                errors=await self._kept(batch, errors, "error"),
            )

    def _text(self, line: DoneLine, status: BatchStatus) -> tuple[bytes, bool]:
        if line.result is not None:
            return line.result.text, line.result.is_failure
        code, message = _UNANSWERED[status]
        return self.unanswered(line.custom_id, code, message), True

    async def _kept(self, batch: Batch, partial: PartialFile, kind: str) -> StoredFile | None:
        """None where nothing was written."""
        if not partial.num_bytes:
            return None
        file = self.files.new(
            caller_id=batch.caller_id,
            name=f"{batch.id}_{kind}.jsonl",
            purpose=RESULT_PURPOSE,
            num_bytes=partial.num_bytes,
            lifetime_s=batch.output_lifetime_s,
        )
        await partial.finish(self.files.path_of(file.id))
        return file
