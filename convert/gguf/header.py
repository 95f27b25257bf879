"""The bytes before a GGUF's tensor data, and where each tensor's data lies.

Knows no files and no models.

Format, version 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Made in
memory so that the exact size of an output is known before a byte is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gguf import GGMLQuantizationType, GGUFValueType

from convert.errors import DamagedCheckpoint
from convert.quantize import tensor_bytes

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32

Scalar = int | float | bool | str

_FORMATS = {
    GGUFValueType.UINT16: "<H",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT8: "<B",
}


@dataclass(frozen=True)
class Field:
    """One metadata entry."""

    key: str
    type: GGUFValueType  # the value's, or each element's where the value is a tuple
    value: Scalar | tuple[Scalar, ...]


def u16(key: str, value: int) -> Field:
    return Field(key, GGUFValueType.UINT16, value)


def i32(key: str, value: int) -> Field:
    return Field(key, GGUFValueType.INT32, value)


def u32(key: str, value: int) -> Field:
    return Field(key, GGUFValueType.UINT32, value)


def f32(key: str, value: float) -> Field:
    return Field(key, GGUFValueType.FLOAT32, value)


def boolean(key: str, value: bool) -> Field:
    return Field(key, GGUFValueType.BOOL, value)


def string(key: str, value: str) -> Field:
    return Field(key, GGUFValueType.STRING, value)


def boolean_array(key: str, values: Iterable[bool]) -> Field:
    return Field(key, GGUFValueType.BOOL, tuple(values))


def u8_array(key: str, values: Iterable[int]) -> Field:
    return Field(key, GGUFValueType.UINT8, tuple(values))


def i32_array(key: str, values: Iterable[int]) -> Field:
    return Field(key, GGUFValueType.INT32, tuple(values))


def f32_array(key: str, values: Iterable[float]) -> Field:
    return Field(key, GGUFValueType.FLOAT32, tuple(values))


def string_array(key: str, values: Iterable[str]) -> Field:
    return Field(key, GGUFValueType.STRING, tuple(values))


@dataclass(frozen=True, kw_only=True)
class TensorSlot:
    """A tensor's entry."""

    name: str
    shape: tuple[int, ...]  # the outermost axis first
    type: GGMLQuantizationType
    offset: int  # bytes from the start of the data
    num_bytes: int


def lay_out(
    tensors: Iterable[tuple[str, tuple[int, ...], GGMLQuantizationType]],
) -> list[TensorSlot]:
    """Gives every (name, shape, type) its aligned place, in order."""
    slots: list[TensorSlot] = []
    offset = 0
    for name, shape, ggml_type in tensors:
        num_bytes = tensor_bytes(shape, ggml_type)
        slots.append(
            TensorSlot(name=name, shape=shape, type=ggml_type, offset=offset, num_bytes=num_bytes)
        )
        offset = padded(offset + num_bytes)
    return slots


def encoded_bytes(fields: Sequence[Field], slots: Sequence[TensorSlot]) -> int:
    """Of a header before it is padded. Raises what `encode_header` raises."""
    entries = [_encode_field(field) for field in fields] + [_encode_slot(slot) for slot in slots]
    return len(MAGIC) + struct.calcsize("<IQQ") + sum(map(len, entries))


def encode_header(fields: Sequence[Field], slots: Sequence[TensorSlot]) -> bytes:
    """Everything up to the aligned start of the tensor data.

    Raises `DamagedCheckpoint` for text no GGUF can hold.
    """
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(slots), len(fields))]
    parts += [_encode_field(field) for field in fields]
    parts += [_encode_slot(slot) for slot in slots]
    header = b"".join(parts)
    return header.ljust(padded(len(header)), b"\0")


def padded(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def _encode_field(field: Field) -> bytes:
    key = _encode_string(field.key)
    if not isinstance(field.value, tuple):
        return key + struct.pack("<I", field.type) + _encode_scalar(field.type, field.value)
    intro = struct.pack("<IIQ", GGUFValueType.ARRAY, field.type, len(field.value))
    return key + intro + b"".join(_encode_scalar(field.type, item) for item in field.value)


def _encode_scalar(kind: GGUFValueType, value: Scalar) -> bytes:
    if kind is GGUFValueType.STRING:
        assert isinstance(value, str)
        return _encode_string(value)
    return struct.pack(_FORMATS[kind], value)


def _encode_string(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:  # JSON may hold one half of a pair of surrogates
        raise DamagedCheckpoint(
            f"The text {text[:80]!r} contains half a character (a lone surrogate), which a GGUF "
            f"file cannot store: {error}"
        ) from error
    return struct.pack("<Q", len(data)) + data


def _encode_slot(slot: TensorSlot) -> bytes:
    dims = tuple(reversed(slot.shape))  # GGUF puts the axis that is contiguous in memory first
    return _encode_string(slot.name) + struct.pack(
        f"<I{len(dims)}QIQ", len(dims), *dims, slot.type.value, slot.offset
    )
