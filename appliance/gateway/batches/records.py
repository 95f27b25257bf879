"""What is known of a file, of a batch and of one of its lines.

Knows no table and no wire format.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchStatus(str, enum.Enum):
    VALIDATING = "validating"  # its lines have not been read yet
    FAILED = "failed"  # its file cannot be used: nothing was computed
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"  # its results are being written to files
    COMPLETED = "completed"
    EXPIRED = "expired"  # its time was over before all lines were answered
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


UNFINISHED = (
    BatchStatus.VALIDATING,
    BatchStatus.IN_PROGRESS,
    BatchStatus.FINALIZING,
    BatchStatus.CANCELLING,
)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    id: str
    caller_id: str
    name: str  # as its client calls it
    purpose: str
    num_bytes: int
    created_at: int  # Unix seconds, as all times here
    expires_at: int


@dataclass(frozen=True, kw_only=True)
class LineFault:
    """Why a file cannot be used as a batch."""

    code: str
    message: str
    line: int | None = None  # from 1; None: the file as a whole
    param: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewBatch:
    """A batch as it is asked for."""

    caller_id: str
    endpoint: str
    input_file_id: str
    completion_window: str  # as it was written
    window_s: int
    metadata: Mapping[str, str] | None = None
    output_lifetime_s: int | None = None  # of its result files; None: the usual one


@dataclass(frozen=True, kw_only=True)
class Batch:
    id: str
    caller_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: Mapping[str, str] | None
    output_lifetime_s: int
    status: BatchStatus
    created_at: int
    expires_at: int
    # when it took on each status since
    reached: Mapping[BatchStatus, int] = field(default_factory=dict)
    faults: Sequence[LineFault] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    num_lines: int = 0
    num_completed: int = 0
    num_failed: int = 0

    @property
    def num_undone(self) -> int:
        return self.num_lines - self.num_completed - self.num_failed


@dataclass(frozen=True, kw_only=True)
class Line:
    """One request of a batch: where its file has it."""

    number: int  # from 1; lines that hold nothing are counted too
    position: int  # of its first byte
    num_bytes: int
    custom_id: str


@dataclass(frozen=True)
class LineResult:
    """What a batch's result files hold of a line."""

    text: bytes  # without the end of the line
    is_failure: bool


@dataclass(frozen=True, kw_only=True)
class DoneLine:
    """A line for the result files; without a result it has not been answered."""

    number: int
    custom_id: str
    result: LineResult | None


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list."""

    items: Sequence[T]
    has_more: bool
