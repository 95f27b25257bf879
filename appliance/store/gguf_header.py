"""A strict reader of GGUF headers: metadata and the tensor table.

Knows nothing of what a key means to a model.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
little-endian. What ggml's own reader (ggml/src/gguf.cpp) would refuse is refused here
first, in a process that a lying file must not take down: each count, length and offset
is compared with the bytes that are there before anything is read or allocated by it. A
file that is elsewhere is read forward through a stream, as far as its header goes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from appliance.errors import BadModelFile
from appliance.store.ggml_types import FILE_TYPES, TYPES_BY_ID, GgmlType
from appliance.store.gguf_values import (
    MAX_HEADER_BYTES,
    U32,
    U64,
    ByteStream,
    HeaderCursor,
    MetadataArray,
    Scalar,
    array_values,
    bad_file,
    read_value,
)

# What other files begin with.
_OTHER_CONTENT = {
    b"vers": ": it is only a Git LFS pointer to the file; fetch the file with git lfs pull",
    b"<!DO": ": it is a web page (HTML); download the file again",
    b"<!do": ": it is a web page (HTML); download the file again",
    b"<htm": ": it is a web page (HTML); download the file again",
    b"PK\3\4": ": it is a ZIP archive or a PyTorch file",
    b"tjgg": ": it is in a format older than GGUF; download a newer file of the model",
    b"lmgg": ": it is in a format older than GGUF; download a newer file of the model",
}

MAX_NAME_BYTES = 63  # GGML_MAX_NAME - 1
MAX_DIMS = 4  # GGML_MAX_DIMS
_MAX_KEY_BYTES = 65535
_MAX_ALIGNMENT = 1 << 16
_MIN_KV_BYTES = 8 + 1 + 4 + 1  # shortest entry: length and text of the key, type, one-byte value
_MIN_TENSOR_BYTES = 8 + 4 + 4 + 8  # empty name, no dimensions, type, offset


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """One row of the tensor table."""

    name: str
    shape: tuple[int, ...]  # the fastest dimension first
    ggml_type: GgmlType
    offset: int  # from the file's start
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says of itself, all of it consistent with the file's size."""

    path: Path
    num_file_bytes: int
    version: int
    metadata: Mapping[str, Scalar | MetadataArray]
    tensors: tuple[Tensor, ...]
    data_offset: int
    type_ids: Mapping[str, int] = field(default_factory=dict)  # of the keys, as GGUF has them

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    @property
    def quantization(self) -> str:
        """The file type's usual name such as `Q4_K_M`; where the file does not say, the
        type of most of its bytes.
        """
        name = FILE_TYPES.get(self.integer("general.file_type", -1))
        if name is not None:
            return name
        bytes_by_type: dict[str, int] = {}
        for tensor in self.tensors:
            bytes_by_type[tensor.ggml_type.name] = (
                bytes_by_type.get(tensor.ggml_type.name, 0) + tensor.num_bytes
            )
        return max(bytes_by_type, key=lambda name: bytes_by_type[name], default="F32")

    def text(self, key: str, default: str | None = None) -> str:
        """The string under `key`.

        Raises `BadModelFile` if it is not a string, or absent without a default.
        """
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self._lacks(key, "a string")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """The integer under `key`.

        Raises `BadModelFile` if it is none, or absent without a default.
        """
        value = self.metadata.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._lacks(key, "a whole number")
        return value

    def integers(self, key: str, count: int, default: int | None = None) -> tuple[int, ...]:
        """`count` integers: an array of just that length,
        or one number that stands for all.
        """
        value = self.metadata.get(key, default)
        if not isinstance(value, MetadataArray):
            return (self.integer(key, default),) * count
        if value.num_values != count or not value.holds_integers:
            raise self._lacks(key, f"{count} whole numbers")
        return tuple(int(item) for item in self.array(key))

    def array_length(self, key: str) -> int:
        """How many values the array under `key` has; 0 if there is none."""
        value = self.metadata.get(key)
        return value.num_values if isinstance(value, MetadataArray) else 0

    def array(self, key: str) -> list[Scalar]:
        """The array under `key`, read from the file if it was not kept.

        Raises `BadModelFile` if there is none, or the file has changed or is not here.
        """
        data = self.array_bytes(key)
        value = self.metadata[key]
        assert isinstance(value, MetadataArray)
        return list(array_values(HeaderCursor(self.path, data, len(data)), value))

    def array_bytes(self, key: str) -> bytes:
        """The same as the file has it: of text, each has its length in front.

        Raises as `array` does.
        """
        value = self.metadata.get(key)
        if not isinstance(value, MetadataArray):
            raise self._lacks(key, "an array")
        return value.data or self._read_array(key, value)

    def _read_array(self, key: str, array: MetadataArray) -> bytes:
        with _open(self.path) as file:
            file.seek(array.offset)
            data = file.read(array.num_bytes)
        if len(data) != array.num_bytes:
            raise bad_file(self.path, f"it became shorter while its key {key} was read")
        return data

    def _lacks(self, key: str, what: str) -> BadModelFile:
        return bad_file(self.path, f"its key {key} is not {what}")


def read_header(path: Path) -> GgufHeader:
    """The header of the file at `path`; takes milliseconds, for it reads no tensor data
    and keeps no array.

    Raises `BadModelFile` naming the file and what is wrong with it.
    """
    with _open(path) as file:
        return read_header_from(file, path, os.fstat(file.fileno()).st_size)


def read_header_from(stream: ByteStream, path: Path, num_file_bytes: int) -> GgufHeader:
    """The header of a file of `num_file_bytes` that `stream` begins; it is read as far
    as the header goes, no further.

    `path` is where the file is, or will be. Arrays of text cannot be asked for while it
    is not there. Raises `BadModelFile` as `read_header` does.
    """
    return _read(HeaderCursor(path, b"", num_file_bytes, stream), path)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise BadModelFile(f"{path} cannot be read: {error.strerror}.") from error


def _read(cursor: HeaderCursor, path: Path) -> GgufHeader:
    magic = cursor.raw(4, "its first four bytes")
    if magic != b"GGUF":
        raise bad_file(path, f"it does not begin with GGUF{_OTHER_CONTENT.get(magic, '')}")
    version = cursor.count(U32, "the version")
    if version not in (2, 3):
        big_endian = " (or is it big-endian?)" if version & 0xFFFF == 0 else ""
        raise bad_file(
            path, f"its version is {version}{big_endian}, but only versions 2 and 3 are supported"
        )
    num_tensors = cursor.count(U64, "the number of tensors")
    num_keys = cursor.count(U64, "the number of keys")
    room = min(cursor.end, MAX_HEADER_BYTES) - cursor.position
    if num_keys * _MIN_KV_BYTES + num_tensors * _MIN_TENSOR_BYTES > room:
        raise bad_file(
            path, f"{num_keys} keys and {num_tensors} tensors do not fit in {cursor.end} bytes"
        )
    metadata, type_ids = _read_metadata(cursor, num_keys)
    tensors, data_offset = _read_tensors(cursor, num_tensors, _alignment(path, metadata))
    return GgufHeader(
        path=path,
        num_file_bytes=cursor.end,
        version=version,
        metadata=metadata,
        tensors=tensors,
        data_offset=data_offset,
        type_ids=type_ids,
    )


def _read_metadata(
    cursor: HeaderCursor, num_keys: int
) -> tuple[dict[str, Scalar | MetadataArray], dict[str, int]]:
    """Each key's value, and its type."""
    metadata: dict[str, Scalar | MetadataArray] = {}
    type_ids: dict[str, int] = {}
    for index in range(num_keys):
        key = cursor.name(_MAX_KEY_BYTES, f"key {index}")
        if not key or key in metadata:
            raise bad_file(
                cursor.path, f"key {index} ({key!r}) {'occurs twice' if key else 'is empty'}"
            )
        type_ids[key] = cursor.count(U32, f"the type of key {key}")
        metadata[key] = read_value(cursor, type_ids[key], f"key {key}")
    return metadata, type_ids


def _alignment(path: Path, metadata: Mapping[str, Scalar | MetadataArray]) -> int:
    value = metadata.get("general.alignment", 32)
    if not isinstance(value, int) or not 0 < value <= _MAX_ALIGNMENT or value & (value - 1) != 0:
        raise bad_file(
            path, f"its alignment {value!r} is not a power of two up to {_MAX_ALIGNMENT}"
        )
    return value


def _read_tensors(
    cursor: HeaderCursor, num_tensors: int, alignment: int
) -> tuple[tuple[Tensor, ...], int]:
    """The table with offsets made absolute, and where the data begin; tensors follow
    each other, each aligned.
    """
    relative: dict[str, Tensor] = {}
    data_bytes = 0
    for index in range(num_tensors):
        tensor = _read_tensor(cursor, index)
        if tensor.name in relative:
            raise bad_file(cursor.path, f"tensor {tensor.name} occurs twice")
        if tensor.offset != data_bytes:
            raise bad_file(
                cursor.path,
                f"tensor {tensor.name} is at offset {tensor.offset}, not at {data_bytes}",
            )
        relative[tensor.name] = tensor
        data_bytes += _padded(tensor.num_bytes, alignment)
    data_offset = _padded(cursor.position, alignment)
    tensors = tuple(
        Tensor(
            name=t.name,
            shape=t.shape,
            ggml_type=t.ggml_type,
            offset=data_offset + t.offset,
            num_bytes=t.num_bytes,
        )
        for t in relative.values()
    )
    end = tensors[-1].offset + tensors[-1].num_bytes if tensors else cursor.position
    if end > cursor.end:
        raise bad_file(
            cursor.path,
            f"it should have {end} bytes but has {cursor.end}: it was cut short or is still being "
            "written",
        )
    return tensors, data_offset


def _read_tensor(cursor: HeaderCursor, index: int) -> Tensor:
    """Row `index`, its offset still counted from the start of the data."""
    name = cursor.name(MAX_NAME_BYTES, f"the name of tensor {index}")
    what = f"tensor {name!r}"
    num_dims = cursor.count(U32, what)
    if num_dims > MAX_DIMS:
        raise bad_file(
            cursor.path, f"{what} has {num_dims} dimensions, but at most {MAX_DIMS} are possible"
        )
    shape = tuple(cursor.count(U64, what) for _ in range(num_dims))
    type_id = cursor.count(U32, what)
    ggml_type = TYPES_BY_ID.get(type_id)
    if ggml_type is None:
        raise bad_file(
            cursor.path, f"{what} has type {type_id}, which this version does not support"
        )
    row_values = shape[0] if shape else 1
    if row_values % ggml_type.block_values:
        raise bad_file(
            cursor.path,
            f"{what} of type {ggml_type.name} has rows of {row_values} values, which is not a "
            f"multiple of {ggml_type.block_values}",
        )
    num_values = 1
    for dim in shape:
        num_values *= dim
    num_bytes = num_values // ggml_type.block_values * ggml_type.block_bytes
    if num_bytes > cursor.end:
        raise bad_file(
            cursor.path, f"{what} takes {num_bytes} bytes, but the whole file has {cursor.end}"
        )
    return Tensor(
        name=name,
        shape=shape,
        ggml_type=ggml_type,
        offset=cursor.count(U64, what),
        num_bytes=num_bytes,
    )


def _padded(num_bytes: int, alignment: int) -> int:
    return (num_bytes + alignment - 1) // alignment * alignment
