"""What was measured of a GGUF, kept beside it as `MODEL.gguf.quality.json`.

Knows no decoding and no choice.

The format is for other programs too (the planner of `appliance` reads it):

    {
      "format": 1,
      "file": {"sha256": "...", "num_bytes": 6289984, "modified_ns": 1795399200000000000},
      "measurements": [
        {
          "text": {"name": "heldout.txt", "sha256": "..."},
          "window_tokens": 512, "num_windows": 40, "is_whole_text": false,
          "kv_type": "f16",
          "reference": {"name": "novels-F32.gguf", "sha256": "..."},
          "quality": {
            "num_tokens": 10200,
            "perplexity": {"value": 57.1, "standard_error": 0.9},
            "divergence": {
              "kl_mean": {...}, "kl_p99": {...}, "top1": {...},
              "reference_perplexity": {...}, "perplexity_ratio": {...}
            }
          },
          "llama_cpp_version": "0.3.36",
          "measured_on": "2026-11-23"
        }
      ]
    }

`reference` and `divergence` are both null where there was no reference. Each estimate
has `value` and `standard_error`; divergences are in nats per token, `top1` is a share
of 1. Hashes are SHA-256 over the file, in hexadecimal. A sidecar holds for the file
whose size and hash it names; who trusts times may leave out hashing while `modified_ns`
still is the file's time of modification.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from convert.content import hash_file
from convert.errors import BadInput
from convert.quality.statistics import Divergence, Quality
from convert.writer import whole_file

SUFFIX = ".quality.json"
FORMAT = 1
MAX_BYTES = 1 << 20
MAX_MEASUREMENTS = 200  # the oldest go first; well within MAX_BYTES

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class _StrictRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class FileState(_StrictRecord, frozen=True):
    """Which content is meant, and when the file that held it was last modified."""

    sha256: Sha256
    num_bytes: Positive
    modified_ns: int  # since 1970

    def is_content_of(self, other: FileState) -> bool:
        return (self.sha256, self.num_bytes) == (other.sha256, other.num_bytes)


class NamedContent(_StrictRecord, frozen=True):
    """A file as it was called, and what was in it."""

    name: Word
    sha256: Sha256


class Measurement(_StrictRecord, frozen=True, kw_only=True):
    """One evaluation."""

    text: NamedContent
    window_tokens: Positive
    num_windows: Positive
    is_whole_text: bool  # the text has no further window
    kv_type: Word
    reference: NamedContent | None
    quality: Quality
    llama_cpp_version: Word
    measured_on: datetime.date  # in UTC

    def __post_init__(self) -> None:
        divergence = self.quality.divergence
        if (self.reference is None) != (divergence is None):
            raise ValueError("reference and divergence must either both be there or both be null")
        _check_ranges(self.quality, divergence)

    def is_repeated_by(self, other: Measurement) -> bool:
        """Whether both measured the same."""
        return self.request == other.request and self.num_windows == other.num_windows

    @property
    def request(self) -> Request:
        reference = None if self.reference is None else self.reference.sha256
        return Request(self.text.sha256, self.window_tokens, reference, self.kv_type)

    def answers(self, request: Request, max_windows: int | None) -> bool:
        """Whether measuring `request` on as many windows would give this again."""
        could_have_more = max_windows is None or max_windows > self.num_windows
        is_enough = self.is_whole_text if could_have_more else self.num_windows == max_windows
        return self.request == request and is_enough


class _Sidecar(_StrictRecord, frozen=True):
    format: int
    file: FileState
    measurements: list[Measurement]


@dataclass(frozen=True)
class Request:
    """What is asked of a model, except on how many windows."""

    text_sha256: str
    window_tokens: int
    reference_sha256: str | None
    kv_type: str


@dataclass(frozen=True)
class Recorded:
    """What the sidecar holds about a model as it is now."""

    measurements: tuple[Measurement, ...]
    warning: str | None = None  # why a sidecar that is there is not used

    def find(self, request: Request, max_windows: int | None) -> Measurement | None:
        return next(
            (known for known in self.measurements if known.answers(request, max_windows)), None
        )


def sidecar_path(model: Path) -> Path:
    return model.with_name(model.name + SUFFIX)


def read_state(path: Path) -> FileState:
    """Reads the whole file. Raises `BadInput` if that fails."""
    try:
        before = path.stat()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    return FileState(hash_file(path), before.st_size, before.st_mtime_ns)


def read_recorded(model: Path, state: FileState) -> Recorded:
    """What is recorded beside `model`, whose state is `state`."""
    path = sidecar_path(model)
    if not path.exists():
        return Recorded(())
    try:
        sidecar = _decode(path)
    except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        return Recorded((), f"{path.name} is not a valid quality record and is ignored: {error}")
    if not sidecar.file.is_content_of(state):
        return Recorded(
            (), f"{path.name} was measured on a different version of {model.name} and is ignored"
        )
    return Recorded(tuple(sidecar.measurements))


def add_recorded(model: Path, state: FileState, new: Measurement) -> Path:
    """Adds `new` to what is recorded, in the place of one that it repeats; the sidecar
    is replaced whole or not at all.

    Two processes that measure the same model keep both measurements. Raises `BadInput`
    if it cannot be written.
    """
    path = sidecar_path(model)
    with _alone_in(path.parent):
        measurements = replacing(read_recorded(model, state).measurements, new)
        sidecar = _Sidecar(FORMAT, state, measurements[-MAX_MEASUREMENTS:])
        data = msgspec.json.format(msgspec.json.encode(sidecar), indent=1) + b"\n"
        with whole_file(path, len(data)) as file:
            file.write(data, 0)
    return path


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Holds a lock on the directory itself, which leaves no file behind; the kernel
    frees it however we end.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"{directory} cannot be opened: {error.strerror}.") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def replacing(measurements: Sequence[Measurement], new: Measurement) -> list[Measurement]:
    """`measurements` with `new` as the last, in the place of one that it repeats."""
    return [*(known for known in measurements if not known.is_repeated_by(new)), new]


def _decode(path: Path) -> _Sidecar:
    """Raises `OSError`, `ValueError` or `RecursionError`."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    version = msgspec.json.decode(data, type=_Version).format
    if version != FORMAT:
        raise ValueError(f"its format is {version}, but only {FORMAT} is supported")
    return msgspec.json.decode(data, type=_Sidecar)


class _Version(msgspec.Struct):
    format: int


def _check_ranges(quality: Quality, divergence: Divergence | None) -> None:
    """Raises `ValueError` for numbers that no measurement gives."""
    estimates = [quality.perplexity]
    if divergence is not None:
        estimates += [divergence.kl_mean, divergence.kl_p99, divergence.top1]
        estimates += [divergence.reference_perplexity, divergence.perplexity_ratio]
    numbers = [
        number for estimate in estimates for number in (estimate.value, estimate.standard_error)
    ]
    if quality.num_tokens < 1 or not all(
        math.isfinite(number) and number >= 0 for number in numbers
    ):
        raise ValueError("a number is negative or not finite")
    if divergence is not None and divergence.top1.value > 1:
        raise ValueError("top1 is above 1")
