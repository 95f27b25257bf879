"""A batch's file, line by line: where each line is, or all that is wrong with it.

Knows no wire format; everything here blocks, and is called in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from appliance.gateway.batches.line_format import BadLine, LineFormat
from appliance.gateway.batches.records import Line, LineFault

MAX_LINES = 50_000  # OpenAI's bound
_MAX_FAULTS = 100  # told of one file


@dataclass(frozen=True)
class ReadLines:
    """Lines to be answered, or faults."""

    lines: list[Line] = field(default_factory=list)
    faults: list[LineFault] = field(default_factory=list)


def read_lines(path: Path, endpoint: str, line_format: LineFormat) -> ReadLines:
    """Of a whole file. Raises `OSError`."""
    read = ReadLines()
    if not path.exists():  # somebody else has removed it: it will not come back
        read.faults.append(LineFault(code="file_not_found", message="The file is gone."))
        return read
    numbers: dict[str, int] = {}  # of the lines by their custom ids
    for number, position, line in _raw_lines(path, line_format.max_line_bytes):
        try:
            custom_id = _custom_id(line, endpoint, line_format)
            if (other := numbers.setdefault(custom_id, number)) != number:
                raise BadLine(
                    "duplicate_custom_id",
                    f"Line {other} has the same custom_id: each needs one of its own.",
                    "custom_id",
                )
        except BadLine as bad:
            read.faults.append(
                LineFault(code=bad.code, message=bad.message, line=number, param=bad.param)
            )
            if len(read.faults) == _MAX_FAULTS:
                return read
            continue
        read.lines.append(
            Line(number=number, position=position, num_bytes=len(line), custom_id=custom_id)
        )
        if len(read.lines) > MAX_LINES:
            read.faults.append(
                LineFault(
                    code="too_many_tasks",
                    message=f"A batch may hold {MAX_LINES} requests, and this file holds more.",
                )
            )
            return read
    if not read.lines and not read.faults:
        read.faults.append(LineFault(code="empty_file", message="The file holds no request."))
    return read


def read_line(path: Path, line: Line) -> bytes:
    """One that `read_lines` found. Raises `OSError`."""
    with path.open("rb") as file:
        file.seek(line.position)
        return file.read(line.num_bytes)


def _custom_id(line: bytes, endpoint: str, line_format: LineFormat) -> str:
    if len(line) > line_format.max_line_bytes:
        raise BadLine(
            "line_too_long",
            f"The line is longer than {line_format.max_line_bytes} bytes, which is the most that a "
            "request may have here.",
        )
    return line_format.custom_id(line, endpoint)


def _raw_lines(path: Path, max_line_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """Number, position and bytes of each line that holds something; one that is too long
    is cut off one byte behind the bound.
    """
    number, position = 0, 0
    with path.open("rb") as file:
        while line := file.readline(max_line_bytes + 2):
            number += 1
            begin, position = position, position + len(line)
            while not line.endswith(b"\n") and (rest := file.readline(1 << 16)):
                position += len(rest)
                if rest.endswith(b"\n"):
                    break
            stripped = line.rstrip(b"\r\n")
            if stripped.strip():
                yield number, begin, stripped[: max_line_bytes + 1]
