"""One safetensors file: its header checked, its tensors readable row by row.

Knows no models and no index of shards.

Format: https://github.com/huggingface/safetensors#format. Rows are read with `pread`
rather than through a memory map: memory stays what the caller asked for whatever the
file's size, and a file that shrinks while it is read is an error with a name, not a
SIGBUS.
"""

from __future__ import annotations

import enum
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
_COMPARED_ITEMS = 1 << 18  # at once: 1 MiB of float32
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1"} | {
    f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "IU" for bits in (16, 32, 64)
}


class StoredType(enum.Enum):
    """How a checkpoint stores numbers, in the format's own words.

    The first three hold weights. The others are buffers such as position numbers, saved
    along, or what a quantization packs weights into. NumPy has no bfloat16: its values
    travel as their 16 raw bits.
    """

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    F64 = "F64"
    BOOL = "BOOL"
    I64 = "I64"
    U64 = "U64"
    C64 = "C64"
    I32 = "I32"
    U32 = "U32"
    I16 = "I16"
    U16 = "U16"
    I8 = "I8"
    U8 = "U8"
    F8_E4M3 = "F8_E4M3"
    F8_E5M2 = "F8_E5M2"
    F8_E8M0 = "F8_E8M0"
    F8_E4M3FNUZ = "F8_E4M3FNUZ"
    F8_E5M2FNUZ = "F8_E5M2FNUZ"
    F6_E2M3 = "F6_E2M3"
    F6_E3M2 = "F6_E3M2"
    F4 = "F4"

    @property
    def dtype(self) -> np.dtype[Any]:
        """In which numbers travel: their raw bits where NumPy has no such type. Not of
        those that are smaller than a byte.
        """
        return np.dtype(_DTYPES.get(self.value, "u1"))

    @property
    def num_bits(self) -> int:
        digits = re.search(r"\d+", self.value)
        return 8 if digits is None else int(digits[0])

    @property
    def holds_weights(self) -> bool:
        return self in (StoredType.F32, StoredType.F16, StoredType.BF16)

    @property
    def may_be_packed(self) -> bool:
        """Whether quantized weights may be in it."""
        plain = (StoredType.F64, StoredType.I64, StoredType.U64, StoredType.C64, StoredType.BOOL)
        return not self.holds_weights and self not in plain


def unreadable(path: Path, name: str, type_name: Any) -> UnsupportedModel:
    """That a tensor is stored in a type that is not read."""
    known = ", ".join(stored.value for stored in StoredType if stored.holds_weights)
    return UnsupportedModel(
        f"{path} stores {name} as {type_name}, but only {known} can be read. Use "
        "the unquantized checkpoint of this model."
    )


def to_float32(raw: NDArray[Any], stored_type: StoredType) -> NDArray[np.float32]:
    """The exact float32 values of `raw`, same shape, contiguous."""
    if stored_type is StoredType.BF16:
        return np.left_shift(raw.astype(np.uint32), 16).view(np.float32)
    return np.ascontiguousarray(raw, dtype=np.float32)


def as_stored(values: NDArray[np.float32], stored_type: StoredType) -> NDArray[Any]:
    """Rounded to the nearest number of a type that holds weights, half to even."""
    if stored_type is StoredType.BF16:
        bits = np.ascontiguousarray(values).view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype("<u2")
    with np.errstate(over="ignore"):  # what is then infinite is refused
        return values.astype(stored_type.dtype)


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor in a file.

    Rows run along the last axis: a tensor of shape (out, in) has `out` rows of `in`
    items; a vector has rows of 1.
    """

    name: str
    stored_type: StoredType
    shape: tuple[int, ...]
    offset: int  # of its first byte in the file
    file: SafetensorsFile

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.stored_type.num_bits // 8

    @property
    def row_items(self) -> int:
        return self.shape[-1] if len(self.shape) > 1 else 1

    @property
    def num_rows(self) -> int:
        return math.prod(self.shape) // self.row_items

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` as stored, shape (stop - start, row_items).

        Raises `DamagedCheckpoint`.
        """
        rows = np.empty((stop - start, self.row_items), dtype=self.stored_type.dtype)
        row_bytes = self.row_items * rows.dtype.itemsize
        self.file.read_into(rows.data.cast("B"), self.offset + start * row_bytes)
        return rows

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        """The types of GGUF whose blocks hold the same numbers as this quantized weight, the
        smallest first; none of a weight that is not quantized.
        """
        return ()

    @property
    def block_scale(self) -> float:
        """What the numbers of such blocks are still to be multiplied by: a float32."""
        return 1.0

    @property
    def turned(self) -> StoredTensor | None:
        """The same matrices on their side, where that is how a quantized weight lies."""
        return None

    @property
    def held_bytes(self) -> int:
        """What is kept in memory beside the rows that are asked for."""
        return 0

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        """Rows as blocks of one of `packs`, shape (stop - start, bytes of a row)."""
        raise AssertionError(
            f"{self.name}: rows {start} to {stop} have no blocks of {ggml_type.name}"
        )

    def equals(self, other: StoredTensor) -> bool:
        """Whether both hold the same numbers, in memory for a few rows.

        Raises `DamagedCheckpoint`.
        """
        holds_weights = self.stored_type.holds_weights and other.stored_type.holds_weights
        if self.shape != other.shape or not holds_weights:
            return False
        step = max(1, _COMPARED_ITEMS // self.row_items)
        for start in range(0, self.num_rows, step):
            stop = min(start + step, self.num_rows)
            ours, theirs = (
                to_float32(tensor.read_rows(start, stop), tensor.stored_type)
                for tensor in (self, other)
            )
            if not np.array_equal(ours, theirs):
                return False
        return True


class StoredBytes(Protocol):
    """The bytes of a file, wherever they are. Reads are thread-safe."""

    @property
    def num_bytes(self) -> int: ...

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` from `offset` on. Raises `ConvertError` of some kind."""

    def close(self) -> None: ...


class LocalBytes:
    """Those of a file that is here. Raises `MissingFile` where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise MissingFile(f"{path} is missing. Download it again.") from None
        except OSError as error:
            raise MissingFile(f"{path} cannot be opened: {error.strerror}.") from error

    @property
    def num_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` from `offset` on.

        Raises `DamagedCheckpoint` if the file ends before.
        """
        while len(buffer):
            try:
                count = os.preadv(self._fd, [buffer], offset)
            except OSError as error:
                raise DamagedCheckpoint(
                    f"{self._path} cannot be read: {error.strerror}."
                ) from error
            if count == 0:
                raise DamagedCheckpoint(
                    f"{self._path} ended at byte {offset} while it was being read. Another "
                    "program may have changed it."
                )
            buffer, offset = buffer[count:], offset + count


class SafetensorsFile:
    """An open safetensors file whose header has been checked against its size.

    Reads are thread-safe. `texts` is what the header has beside its tensors.
    """

    def __init__(self, path: Path, stored: StoredBytes | None = None) -> None:
        self.path = path
        self._stored = stored or LocalBytes(path)
        try:
            self.tensors = self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stored.close()

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` from `offset` on.

        Raises `DamagedCheckpoint` if the file ends before.
        """
        self._stored.read_into(buffer, offset)

    def _read_header(self) -> dict[str, StoredTensor]:
        file_bytes = self._stored.num_bytes
        if file_bytes < 8:
            raise DamagedCheckpoint(
                f"{self.path} is truncated: {file_bytes} bytes are too few for a safetensors "
                "header."
            )
        header_bytes = int.from_bytes(self._read(0, 8), "little")
        if header_bytes > min(MAX_HEADER_BYTES, file_bytes - 8):
            raise DamagedCheckpoint(
                f"{self.path} is truncated or not a safetensors file: it declares a header of "
                f"{header_bytes} bytes in a file of {file_bytes}."
            )
        try:
            header = json.loads(self._read(8, header_bytes))
        except (ValueError, RecursionError) as error:
            raise DamagedCheckpoint(
                f"{self.path} has a header that is not valid JSON: {error}"
            ) from error
        if not isinstance(header, dict):
            raise DamagedCheckpoint(f"{self.path} has a header that is not a JSON object.")
        texts = header.pop("__metadata__", None)
        self.texts: Mapping[str, Any] = texts if isinstance(texts, dict) else {}
        data_start = 8 + header_bytes
        tensors = {
            name: self._parse_entry(name, entry, data_start) for name, entry in header.items()
        }
        self._check_layout(tensors, data_start, file_bytes)
        return tensors

    def _read(self, offset: int, num_bytes: int) -> bytes:
        buffer = bytearray(num_bytes)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def _parse_entry(self, name: str, entry: Any, data_start: int) -> StoredTensor:
        try:
            type_name, shape, (begin, end) = (
                entry["dtype"],
                tuple(entry["shape"]),
                entry["data_offsets"],
            )
            if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
                raise ValueError("sizes must be whole numbers")
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedCheckpoint(
                f"{self.path} has a malformed header entry for {name!r}: {error}"
            ) from error
        if not isinstance(type_name, str) or type_name not in StoredType.__members__:
            raise unreadable(self.path, name, type_name)
        stored_type = StoredType[type_name]
        num_bits = math.prod(shape) * stored_type.num_bits
        if (end - begin) * 8 != num_bits:
            raise DamagedCheckpoint(
                f"{self.path} has an inconsistent header: {name} of shape {list(shape)} needs "
                f"{num_bits // 8} bytes as {type_name}, but its offsets span {end - begin}."
            )
        return StoredTensor(
            name=name, stored_type=stored_type, shape=shape, offset=data_start + begin, file=self
        )

    def _check_layout(
        self, tensors: dict[str, StoredTensor], data_start: int, file_bytes: int
    ) -> None:
        """Tensors must follow one another without hole or overlap up to the end of the
        file, as the format demands.
        """
        expected = data_start
        for tensor in sorted(tensors.values(), key=lambda t: (t.offset, t.num_bytes)):
            if tensor.offset != expected:
                raise DamagedCheckpoint(
                    f"{self.path} has an inconsistent header: {tensor.name} begins at byte "
                    f"{tensor.offset}, but the previous tensor ends at byte {expected}."
                )
            expected += tensor.num_bytes
        if file_bytes < expected:
            raise DamagedCheckpoint(
                f"{self.path} is truncated: its header describes {expected} bytes, but the file "
                f"has only {file_bytes}. Download it again."
            )
        if file_bytes > expected:
            raise DamagedCheckpoint(
                f"{self.path} has {file_bytes} bytes, but its header describes only {expected}: "
                "it is not a plain safetensors file."
            )
