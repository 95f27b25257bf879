"""The records of files and batches, and of a line of a batch's results.

Knows no request and no transport.

Sources: https://platform.openai.com/docs/api-reference/files/object and
https://platform.openai.com/docs/api-reference/batch/object
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from appliance.gateway.batches.records import Batch, BatchStatus, StoredFile


class FileRecord(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[FileRecord]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class BatchFault(msgspec.Struct, kw_only=True):
    code: str
    line: int | None
    message: str
    param: str | None


class BatchFaults(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[BatchFault]


class LineCounts(msgspec.Struct, kw_only=True):
    total: int
    completed: int
    failed: int


class BatchRecord(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: LineCounts
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[BatchRecord]
    first_id: str | None
    last_id: str | None
    has_more: bool


class LineResponse(msgspec.Struct, kw_only=True):
    status_code: int
    request_id: str
    body: Any


class LineError(msgspec.Struct, kw_only=True):
    """Of a request that was not answered at all."""

    code: str
    message: str


class ResultLine(msgspec.Struct, kw_only=True):
    id: str
    custom_id: str
    response: Annotated[
        LineResponse | None, Meta(description="What the endpoint answered, errors included.")
    ]
    error: LineError | None


def file_record(file: StoredFile) -> FileRecord:
    return FileRecord(
        id=file.id,
        bytes=file.num_bytes,
        created_at=file.created_at,
        expires_at=file.expires_at,
        filename=file.name,
        purpose=file.purpose,
    )


def batch_record(batch: Batch) -> BatchRecord:
    faults = [
        BatchFault(code=each.code, line=each.line, message=each.message, param=each.param)
        for each in batch.faults
    ]
    reached = batch.reached
    return BatchRecord(
        id=batch.id,
        endpoint=batch.endpoint,
        errors=BatchFaults(data=faults) if faults else None,
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.status.value,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        created_at=batch.created_at,
        in_progress_at=reached.get(BatchStatus.IN_PROGRESS),
        expires_at=batch.expires_at,
        finalizing_at=reached.get(BatchStatus.FINALIZING),
        completed_at=reached.get(BatchStatus.COMPLETED),
        failed_at=reached.get(BatchStatus.FAILED),
        expired_at=reached.get(BatchStatus.EXPIRED),
        cancelling_at=reached.get(BatchStatus.CANCELLING),
        cancelled_at=reached.get(BatchStatus.CANCELLED),
        request_counts=LineCounts(
            total=batch.num_lines, completed=batch.num_completed, failed=batch.num_failed
        ),
        metadata=None if batch.metadata is None else {**batch.metadata},
    )
