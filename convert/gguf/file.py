"""A small GGUF as a whole:
read with mistrust, or written so that it is whole or not there.

Knows no models.

Format, version 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
gguf.GGUFReader believes a file that lies about its lengths and reads on beyond its end;
here work and memory are bounded by the size of the file.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from convert.errors import BadInput, MissingFile
from convert.gguf.header import ALIGNMENT, MAGIC, Field, encode_header, lay_out, padded
from convert.writer import whole_file

# some hundred bytes for every tensor, so this is room for tens of thousands
MAX_HEADER_BYTES = 8 << 20
_READABLE_VERSIONS = (2, 3)
_MAX_DIMS = 4
_MAX_ALIGNMENT = 1 << 16
_DTYPES: dict[GGMLQuantizationType, np.dtype[Any]] = {
    GGMLQuantizationType.F32: np.dtype("<f4"),
    GGMLQuantizationType.F64: np.dtype("<f8"),
    GGMLQuantizationType.I64: np.dtype("<i8"),
}
_GGML_TYPES = {dtype: ggml_type for ggml_type, dtype in _DTYPES.items()}
_SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}

Value = int | float | bool | str | tuple[Any, ...]


@dataclass(frozen=True)
class SmallGguf:
    """What a file holds."""

    fields: Mapping[str, Value]
    tensors: Mapping[str, NDArray[Any]]  # the outermost axis first


@dataclass(frozen=True)
class _Slot:
    """A tensor's place."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int  # bytes from the start of the data

    @property
    def num_items(self) -> int:
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        return self.num_items * self.dtype.itemsize


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUFs do. Raises `MissingFile`."""
    with _open(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(
    path: Path, check_field: Callable[[str, Value], None] = lambda _key, _value: None
) -> SmallGguf:
    """Fields and tensors (F32, F64 and I64 only) of a file, read whole into memory.

    `check_field` sees every field as it comes and may raise, before more of the file is
    read. Raises `MissingFile`, and `BadInput` for anything that is not as the format
    says.
    """
    with _open(path) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        header = _Header(path, file.read(min(MAX_HEADER_BYTES, file_bytes)), file_bytes)
        num_tensors, num_fields = header.read_counts()
        fields: dict[str, Value] = {}
        for key, value in header.read_fields(num_fields):
            check_field(key, value)
            fields[key] = value
        slots = header.read_slots(num_tensors)
        start = header.data_start(fields.get("general.alignment", ALIGNMENT))
        _check_extents(path, slots, file_bytes - start)
        return SmallGguf(
            fields, {slot.name: _read_tensor(path, file, start, slot) for slot in slots}
        )


def write_gguf(path: Path, fields: Sequence[Field], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Writes a GGUF of at least one tensor
    (float32, float64, int64), in the order given.

    Raises `BadInput`.
    """
    slots = lay_out(
        (name, values.shape, _GGML_TYPES[values.dtype]) for name, values in tensors.items()
    )
    header = encode_header(fields, slots)
    with whole_file(path, len(header) + padded(slots[-1].offset + slots[-1].num_bytes)) as output:
        output.write(header, 0)
        for slot in slots:
            output.write(np.ascontiguousarray(tensors[slot.name]).data, len(header) + slot.offset)


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise MissingFile(f"{path} cannot be opened: {error.strerror}.") from error


class _Header:
    """Reads the first bytes of a file from front to back."""

    def __init__(self, path: Path, data: bytes, file_bytes: int) -> None:
        self._path = path
        self._data = data
        self._file_bytes = file_bytes
        self._at = 0

    def read_counts(self) -> tuple[int, int]:
        """Tensors and fields."""
        if self._take(len(MAGIC)) != MAGIC:
            raise BadInput(f"{self._path} is not a GGUF file.")
        version, num_tensors, num_fields = self._unpack("<IQQ")
        if version not in _READABLE_VERSIONS:
            raise BadInput(
                f"{self._path} is a GGUF file of version {version}, but only versions 2 and 3 "
                "can be read."
            )
        return num_tensors, num_fields

    def read_fields(self, count: int) -> Iterator[tuple[str, Value]]:
        for _ in range(count):  # a lying count ends where the bytes do
            key = self._string()
            yield key, self._value(key)

    def read_slots(self, count: int) -> list[_Slot]:
        slots: dict[str, _Slot] = {}
        for _ in range(count):
            slot = self._slot()
            if slot.name in slots:
                raise BadInput(f"{self._path} is damaged: it contains {slot.name} twice.")
            slots[slot.name] = slot
        return list(slots.values())

    def data_start(self, alignment: Value) -> int:
        if (
            type(alignment) is not int
            or not 0 < alignment <= _MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            raise BadInput(f"{self._path} is damaged: general.alignment is {alignment!r}.")
        return -(-self._at // alignment) * alignment

    def _slot(self) -> _Slot:
        name = self._string()
        (num_dims,) = self._unpack("<I")
        if not 1 <= num_dims <= _MAX_DIMS:
            raise BadInput(f"{self._path} is damaged: {name} has {num_dims} dimensions.")
        shape = tuple(reversed(self._unpack(f"<{num_dims}Q")))
        type_number, offset = self._unpack("<IQ")
        known = {ggml_type.value: dtype for ggml_type, dtype in _DTYPES.items()}
        if type_number not in known:
            raise BadInput(
                f"{self._path} stores {name} as ggml type {type_number}, but only F32, F64 and "
                "I64 can be read."
            )
        return _Slot(name, shape, known[type_number], offset)

    def _value(self, key: str) -> Value:
        kind = self._kind(key)
        if kind is not GGUFValueType.ARRAY:
            return self._scalar(kind)
        kind = self._kind(key)
        (count,) = self._unpack("<Q")
        if kind is GGUFValueType.ARRAY:
            raise BadInput(f"{self._path} is damaged: {key} is an array of arrays.")
        if kind is GGUFValueType.STRING:
            return tuple(self._string() for _ in range(count))
        dtype = np.dtype(_SCALARS[kind].replace("<?", "?"))
        return tuple(np.frombuffer(self._take(count * dtype.itemsize), dtype).tolist())

    def _kind(self, key: str) -> GGUFValueType:
        (number,) = self._unpack("<I")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise BadInput(
                f"{self._path} is damaged: {key} has the unknown type {number}."
            ) from None

    def _scalar(self, kind: GGUFValueType) -> Value:
        if kind is GGUFValueType.STRING:
            return self._string()
        value: int | float | bool = self._unpack(_SCALARS[kind])[0]
        return value

    def _string(self) -> str:
        (num_bytes,) = self._unpack("<Q")
        try:
            return self._take(num_bytes).decode()
        except UnicodeDecodeError as error:
            raise BadInput(
                f"{self._path} is damaged: a string in its header is not UTF-8."
            ) from error

    def _unpack(self, format_: str) -> tuple[Any, ...]:
        return struct.unpack(format_, self._take(struct.calcsize(format_)))

    def _take(self, num_bytes: int) -> bytes:
        end = self._at + num_bytes
        if end > self._file_bytes:
            raise BadInput(
                f"{self._path} is truncated or damaged: its header is incomplete. Download it or "
                "create it again."
            )
        if end > len(self._data):
            raise BadInput(
                f"{self._path} is damaged or of another kind: its header is larger than "
                f"{MAX_HEADER_BYTES} bytes."
            )
        taken = self._data[self._at : end]
        self._at = end
        return taken


def _check_extents(path: Path, slots: Sequence[_Slot], data_bytes: int) -> None:
    """Each within the file, and none over another: all together take no more memory
    than the file has bytes.
    """
    end = 0
    for slot in sorted(slots, key=lambda slot: slot.offset):
        if slot.num_items == 0 or slot.offset < end:
            raise BadInput(f"{path} is damaged: {slot.name} is empty or overlaps another tensor.")
        end = slot.offset + slot.num_bytes
    if end > data_bytes:
        raise BadInput(
            f"{path} is truncated: its tensors take {end} bytes, but it contains only "
            f"{max(0, data_bytes)}. Download it or create it again."
        )


def _read_tensor(path: Path, file: IO[bytes], start: int, slot: _Slot) -> NDArray[Any]:
    file.seek(start + slot.offset)
    values: NDArray[Any] = np.fromfile(file, slot.dtype, slot.num_items)
    if len(values) != slot.num_items:
        raise BadInput(
            f"{path} ended within {slot.name} while it was being read. Another program may have "
            "changed it."
        )
    return values.reshape(slot.shape)
