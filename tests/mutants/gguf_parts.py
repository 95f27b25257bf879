"""A GGUF file taken apart and put together again, however wrong the parts are.

Knows no model, and checks nothing of what it writes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path

from appliance.store.ggml_types import TYPES_BY_ID

STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
SCALARS |= {12: "d"}
_DEFAULT_ALIGNMENT = 32


@dataclass
class Key:
    """One entry of the metadata, its value as the file has it."""

    name: bytes
    type_id: int
    data: bytes

    @property
    def number(self) -> int | float | None:
        """None of a text, or of an array."""
        if self.type_id not in SCALARS:
            return None
        value: int | float = struct.unpack(f"<{SCALARS[self.type_id]}", self.data)[0]
        return value


@dataclass
class TensorPart:
    """One row of the tensor table, and its data."""

    name: bytes
    shape: list[int]
    type_id: int
    data: bytes
    offset: int | None = None  # None: behind the one before

    @property
    def num_bytes(self) -> int:
        """What its type and shape say; 0 where they contradict each other."""
        kind = TYPES_BY_ID.get(self.type_id)
        if kind is None or (self.shape and self.shape[0] % kind.block_values):
            return 0
        return math.prod(self.shape) // kind.block_values * kind.block_bytes


@dataclass
class Parts:
    """A whole file; the counts are those of its parts unless they are given."""

    keys: list[Key]
    tensors: list[TensorPart]
    version: int = 3
    num_keys: int | None = None
    num_tensors: int | None = None
    alignment: int = _DEFAULT_ALIGNMENT
    tail: bytes = b""
    edits: list[tuple[int, bytes]] = field(default_factory=list)  # of the written file
    length: int | None = None  # cut off there

    def key(self, name: bytes) -> Key | None:
        return next((key for key in self.keys if key.name == name), None)

    @property
    def architecture(self) -> bytes:
        key = self.key(b"general.architecture")
        return b"" if key is None else key.data[8:]

    def header(self) -> bytes:
        num_tensors = len(self.tensors) if self.num_tensors is None else self.num_tensors
        num_keys = len(self.keys) if self.num_keys is None else self.num_keys
        parts = [b"GGUF", struct.pack("<IQQ", self.version, num_tensors, num_keys)]
        for key in self.keys:
            parts += [text(key.name), struct.pack("<I", key.type_id), key.data]
        offset = 0
        for tensor in self.tensors:
            shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            at = offset if tensor.offset is None else tensor.offset
            parts += [text(tensor.name), shape, struct.pack("<IQ", tensor.type_id, at)]
            offset += len(tensor.data) + self._padding(len(tensor.data))
        return b"".join(parts)

    def written(self) -> bytes:
        data = bytearray(self.header())
        data += bytes(self._padding(len(data)))
        for tensor in self.tensors:
            data += tensor.data + bytes(self._padding(len(tensor.data)))
        data += self.tail
        for at, edit in self.edits:
            data[at : at + len(edit)] = edit
        return bytes(data[: self.length])

    def _padding(self, num_bytes: int) -> int:
        return -num_bytes % self.alignment


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def read_parts(path: Path) -> Parts:
    """Of a sound file."""
    reader = _Reader(path.read_bytes())
    [version] = reader.take("<4xI")
    num_tensors, num_keys = reader.take("<QQ")
    keys = [_read_key(reader) for _ in range(num_keys)]
    rows = [_read_row(reader) for _ in range(num_tensors)]
    aligned = next((key.number for key in keys if key.name == b"general.alignment"), None)
    parts = Parts(keys, [], version=version, alignment=int(aligned or _DEFAULT_ALIGNMENT))
    start = reader.position + -reader.position % parts.alignment
    for row, offset in rows:
        row.data = reader.data[start + offset : start + offset + row.num_bytes]
        parts.tensors.append(row)
    return parts


@dataclass
class _Reader:
    data: bytes
    position: int = 0

    def take(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(form, self.data, self.position)
        self.position += struct.calcsize(form)
        return values

    def text(self) -> bytes:
        [size] = self.take("<Q")
        self.position += size
        return self.data[self.position - size : self.position]


def _read_key(reader: _Reader) -> Key:
    name = reader.text()
    [type_id] = reader.take("<I")
    start = reader.position
    _skip(reader, type_id)
    return Key(name, type_id, reader.data[start : reader.position])


def _skip(reader: _Reader, type_id: int) -> None:
    if type_id == STRING:
        reader.text()
    elif type_id == ARRAY:
        inner, count = reader.take("<IQ")
        if inner in SCALARS:
            reader.position += count * struct.calcsize(SCALARS[inner])
        else:
            for _ in range(count):
                _skip(reader, inner)
    else:
        reader.position += struct.calcsize(SCALARS[type_id])


def _read_row(reader: _Reader) -> tuple[TensorPart, int]:
    name = reader.text()
    [num_dims] = reader.take("<I")
    shape = list(reader.take(f"<{num_dims}Q"))
    type_id, offset = reader.take("<IQ")
    return TensorPart(name, shape, type_id, b""), offset
