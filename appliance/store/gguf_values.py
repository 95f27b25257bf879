"""Reads the values of a GGUF header forward
from its bytes, none longer than what is there.

Knows the form of numbers, texts and arrays, and no key and no tensor.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Each count and length
is compared with the bytes that are there before anything is read or allocated by it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from appliance.errors import BadModelFile

MAX_HEADER_BYTES = 64 << 20  # the largest vocabularies with their merges take about 20 MiB
_FIRST_READ_BYTES = 1 << 20
_KEPT_ARRAY_BYTES = 1 << 15  # one number for each of the layers a model may have

_FLOAT32, _STRING, _ARRAY, _FLOAT64 = 6, 8, 9, 12
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    _FLOAT32: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    _FLOAT64: struct.Struct("<d"),
}
U32 = _SCALARS[4]
U64 = _SCALARS[10]

Scalar = int | float | bool | str


class ByteStream(Protocol):
    """Bytes that come one after the other;
    `read` gives less than `num_bytes` only at the end.
    """

    def read(self, num_bytes: int, /) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class MetadataArray:
    """Where an array lies in the file, and its bytes where they are few."""

    type_id: int  # of every value, as GGUF numbers its types
    num_values: int
    offset: int  # from the file's start
    num_bytes: int
    data: bytes = field(default=b"", repr=False)  # kept of short arrays of numbers, else empty

    @property
    def holds_integers(self) -> bool:
        return self.type_id not in (_FLOAT32, _STRING, _FLOAT64)


def bad_file(path: Path, what: str) -> BadModelFile:
    return BadModelFile(f"{path} is not a usable GGUF file: {what}. Download or convert it again.")


class HeaderCursor:
    """Reads forward through a header of a file of `num_file_bytes`, never beyond it nor
    beyond the header's bound.
    """

    def __init__(
        self, path: Path, data: bytes, num_file_bytes: int, stream: ByteStream | None = None
    ) -> None:
        self.path = path
        self.position = 0
        self.end = num_file_bytes
        self.data = data
        self._stream = stream

    def require(self, num_bytes: int, what: str) -> None:
        """Makes `num_bytes` from here on available in `data`."""
        wanted = self.position + num_bytes
        if wanted > self.end:
            raise bad_file(self.path, f"it ends within {what}")
        if wanted > len(self.data):
            self._read_up_to(wanted)

    def _read_up_to(self, wanted: int) -> None:
        if wanted > MAX_HEADER_BYTES:
            raise bad_file(self.path, f"its header is longer than {MAX_HEADER_BYTES >> 20} MiB")
        size = min(max(wanted, 2 * len(self.data), _FIRST_READ_BYTES), self.end, MAX_HEADER_BYTES)
        if self._stream is not None:
            self.data += self._stream.read(size - len(self.data))
        if len(self.data) < wanted:
            raise bad_file(self.path, "it became shorter while it was read")

    def scalar(self, form: struct.Struct, what: str) -> int | float | bool:
        self.require(form.size, what)
        value: int | float | bool = form.unpack_from(self.data, self.position)[0]
        self.position += form.size
        return value

    def count(self, form: struct.Struct, what: str) -> int:
        return int(self.scalar(form, what))

    def raw(self, num_bytes: int, what: str) -> bytes:
        self.require(num_bytes, what)
        value = self.data[self.position : self.position + num_bytes]
        self.position += num_bytes
        return value

    def skip(self, num_bytes: int, what: str) -> None:
        self.require(num_bytes, what)
        self.position += num_bytes

    def raw_string(self, max_bytes: int, what: str) -> bytes:
        num_bytes = self.count(U64, what)
        if num_bytes > max_bytes:
            raise bad_file(
                self.path, f"{what} is {num_bytes} bytes long, but at most {max_bytes} are possible"
            )
        return self.raw(num_bytes, what)

    def name(self, max_bytes: int, what: str) -> str:
        try:
            return self.raw_string(max_bytes, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise bad_file(self.path, f"{what} is not UTF-8") from error

    def skip_strings(self, num_values: int, what: str) -> None:
        """Passes over `num_values` strings: hundreds of thousands in a vocabulary,
        hence the plain loop.
        """
        unpack, position, known = U64.unpack_from, self.position, len(self.data)
        for _ in range(num_values):
            if position + 8 > known:
                self.position = position
                self.require(8, what)
                known = len(self.data)
            position += 8 + unpack(self.data, position)[0]
        self.position = position
        self.require(0, what)


def read_value(cursor: HeaderCursor, type_id: int, what: str) -> Scalar | MetadataArray:
    if type_id == _STRING:  # not strict: llama.cpp takes descriptions in any encoding
        return cursor.raw_string(MAX_HEADER_BYTES, what).decode("utf-8", errors="replace")
    if type_id == _ARRAY:
        return _measure_array(cursor, what)
    form = _SCALARS.get(type_id)
    if form is None:
        raise bad_file(cursor.path, f"{what} has type {type_id}, which does not exist")
    return cursor.scalar(form, what)


def _measure_array(cursor: HeaderCursor, what: str) -> MetadataArray:
    type_id = cursor.count(U32, what)
    num_values = cursor.count(U64, what)
    if type_id != _STRING and type_id not in _SCALARS:
        raise bad_file(cursor.path, f"{what} is an array of type {type_id}, which is impossible")
    value_bytes = 8 if type_id == _STRING else _SCALARS[type_id].size
    offset = cursor.position
    if num_values * value_bytes > min(cursor.end, MAX_HEADER_BYTES) - offset:
        raise bad_file(cursor.path, f"{what} has {num_values} values, more than fit in the file")
    if type_id == _STRING:
        cursor.skip_strings(num_values, what)
    else:
        cursor.skip(num_values * value_bytes, what)
    num_bytes = cursor.position - offset
    is_kept = type_id != _STRING and num_bytes <= _KEPT_ARRAY_BYTES
    return MetadataArray(
        type_id=type_id,
        num_values=num_values,
        offset=offset,
        num_bytes=num_bytes,
        data=cursor.data[offset : cursor.position] if is_kept else b"",
    )


def array_values(cursor: HeaderCursor, array: MetadataArray) -> Iterator[Scalar]:
    form = _SCALARS.get(array.type_id)
    for _ in range(array.num_values):
        if form is not None:
            yield cursor.scalar(form, "an array")
        else:
            yield cursor.raw_string(array.num_bytes, "an array").decode("utf-8", errors="replace")
