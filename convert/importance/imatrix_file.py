"""llama.cpp's importance matrix files: what they hold, read and written.

Does not know how one is made or used.

Format: llama.cpp, tools/imatrix and common/imatrix-loader.cpp. A GGUF of `general.type`
"imatrix" with two float32 tensors for each weight: `NAME.in_sum2`, the sum of the
squares of what each column was multiplied with, and `NAME.counts`, over how many rows;
one of each for every expert.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.errors import BadInput
from convert.gguf.file import SmallGguf, Value, is_gguf, read_gguf, write_gguf
from convert.gguf.header import string, string_array, u32

KIND = "imatrix"
SUMS_SUFFIX = ".in_sum2"
COUNTS_SUFFIX = ".counts"
_DATASETS, _CHUNK_COUNT, _CHUNK_SIZE = (
    "imatrix.datasets",
    "imatrix.chunk_count",
    "imatrix.chunk_size",
)
_MAX_NAME_BYTES = 63  # GGML_MAX_NAME is 64, with the zero at its end
_MAX_COUNT = 1 << 53
_MAX_LEGACY_ENTRIES = 1 << 20
_OTHERS = "`appliance-convert importance MODEL.gguf --out I.gguf` creates one."


@dataclass(frozen=True)
class Entry:
    """What one weight was multiplied with."""

    sums: NDArray[np.float32]  # [matrices, columns]: squares summed
    counts: NDArray[np.int64]  # [matrices], or [1] for all: rows that were summed


@dataclass(frozen=True)
class ImportanceMatrix:
    """What each weight was multiplied with while a model read some texts."""

    entries: Mapping[str, Entry]  # by the weight's name
    datasets: tuple[str, ...]  # names of the texts
    chunk_count: int
    chunk_size: int  # tokens

    def digest(self) -> bytes:
        """SHA-256 of all numbers in it."""
        digest = hashlib.sha256()
        for name, entry in sorted(self.entries.items()):
            digest.update(name.encode() + entry.sums.tobytes() + entry.counts.tobytes())
        return digest.digest()

    def weights(self, name: str) -> NDArray[np.float32] | None:
        """How much an error in each column costs: mean squares, shape [matrices,
        columns], contiguous; None if unknown.

        Of a matrix that no row has passed (an expert nobody was sent to) all columns
        weigh 1. Bit for bit what llama-quantize hands to ggml (tools/quantize,
        load_imatrix).
        """
        entry = self.entries.get(name)
        if entry is None:
            return None
        counts = entry.counts.astype(np.float32)[:, np.newaxis]
        is_known = counts > 0
        return np.where(
            is_known, entry.sums / np.where(is_known, counts, np.float32(1)), np.float32(1)
        )


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Reads a file of ours or of llama-imatrix.

    Raises `BadInput` that says what is wrong with it, and the way out.
    """
    if not is_gguf(path):
        raise BadInput(describe_stranger(path))
    content = read_gguf(path, lambda key, value: _check_kind(path, key, value))
    if content.fields.get("general.type") != KIND:
        raise BadInput(
            f"{path} does not declare itself to be an importance matrix (general.type). {_OTHERS}"
        )
    names = _names(path, content)
    return ImportanceMatrix(
        {name: _entry(path, name, content) for name in names},
        _datasets(path, content),
        _whole_number(path, content, _CHUNK_COUNT),
        _whole_number(path, content, _CHUNK_SIZE),
    )


def write_imatrix(path: Path, matrix: ImportanceMatrix) -> None:
    """Writes a file that llama.cpp's tools read, whole or not at all.

    Raises `BadInput` where that cannot be done.
    """
    if not matrix.entries:
        raise BadInput(f"{path} cannot be written: the importance matrix has no entries.")
    fields = (
        string("general.type", KIND),
        string_array(_DATASETS, matrix.datasets),
        u32(_CHUNK_COUNT, matrix.chunk_count),
        u32(_CHUNK_SIZE, matrix.chunk_size),
    )
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in sorted(matrix.entries.items()):
        if len((name + SUMS_SUFFIX).encode()) > _MAX_NAME_BYTES:
            raise BadInput(
                f"The name {name!r} is too long for llama.cpp's importance matrix files."
            )
        num_counts = len(entry.counts)
        # the file's shape is how llama.cpp knows what one count is for
        sums = entry.sums.reshape(num_counts, -1)
        tensors[name + SUMS_SUFFIX] = _without_outer_one(sums)
        tensors[name + COUNTS_SUFFIX] = _without_outer_one(
            entry.counts.astype(np.float32).reshape(num_counts, 1)
        )
    write_gguf(path, fields, tensors)


def _without_outer_one(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """ggml does not count outer dimensions of one."""
    return matrix[0] if len(matrix) == 1 else matrix


def describe_stranger(path: Path) -> str:
    if looks_legacy(path):
        return (
            f"{path} is an importance matrix in llama.cpp's older format. Convert it to GGUF: "
            f"llama-imatrix -m MODEL --in-file {path.name} -o {path.stem}.gguf"
        )
    return f"{path} is not an importance matrix (not even a GGUF file). {_OTHERS}"


def looks_legacy(path: Path) -> bool:
    """The number of entries, then the length of the first one's name, and the name."""
    with path.open("rb") as file:
        start = file.read(8 + _MAX_NAME_BYTES)
    if len(start) < 9:
        return False
    num_entries, name_bytes = struct.unpack_from("<ii", start)
    if not (0 < num_entries <= _MAX_LEGACY_ENTRIES and 0 < name_bytes <= _MAX_NAME_BYTES):
        return False
    name = start[8 : 8 + name_bytes]
    return name.isascii() and name.decode("ascii").isprintable() and name.endswith(b".weight")


def _check_kind(path: Path, key: str, value: Value) -> None:
    """A model is refused at its first field, before its vocabulary is read."""
    if key == "general.architecture" or (key == "general.type" and value != KIND):
        raise BadInput(
            f"{path} is not an importance matrix: it is a GGUF file whose {key} is "
            f"{str(value)[:40]!r}. {_OTHERS}"
        )


def _names(path: Path, content: SmallGguf) -> list[str]:
    """Of the weights.

    Raises `BadInput` unless there is a sum and a count for each, and nothing else.
    """
    halves: dict[str, set[str]] = {}
    for tensor in content.tensors:
        suffix = next(
            (suffix for suffix in (SUMS_SUFFIX, COUNTS_SUFFIX) if tensor.endswith(suffix)), None
        )
        if suffix is not None:  # llama.cpp leaves others alone, too
            halves.setdefault(tensor.removesuffix(suffix), set()).add(suffix)
    if not halves:
        raise BadInput(f"{path} contains no data: it was computed without a text. Create it again.")
    for name, found in halves.items():
        if len(found) == 1:
            raise BadInput(
                f"{path} is damaged: for {name} it contains only {found.pop()[1:]}. Download it "
                "or create it again."
            )
    return sorted(halves)


def _entry(path: Path, name: str, content: SmallGguf) -> Entry:
    sums, counts = (
        content.tensors[name + SUMS_SUFFIX],
        content.tensors[name + COUNTS_SUFFIX].reshape(-1),
    )
    for values, what in ((sums, "sums"), (counts, "counts")):
        if values.dtype != np.float32:
            raise BadInput(
                f"{path} is damaged: the {what} of {name} are {values.dtype}, not float32."
            )
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise BadInput(
                f"{path} is damaged: the {what} of {name} contain values that are negative, "
                "infinite or NaN. Create it again."
            )
    sums = sums.reshape(-1, sums.shape[-1])
    if counts.max() > _MAX_COUNT:
        raise BadInput(f"{path} is damaged: {name} has a count of {counts.max():g}.")
    if len(counts) not in (1, len(sums)):
        raise BadInput(
            f"{path} is damaged: {name} has {len(sums)} rows of sums but {len(counts)} counts."
        )
    # as C's lround does it
    return Entry(sums, np.floor(counts.astype(np.float64) + 0.5).astype(np.int64))


def _datasets(path: Path, content: SmallGguf) -> tuple[str, ...]:
    datasets = content.fields.get(_DATASETS)
    if not (isinstance(datasets, tuple) and all(isinstance(name, str) for name in datasets)):
        raise BadInput(f"{path} is damaged: {_DATASETS} is missing or is not a list of strings.")
    return datasets


def _whole_number(path: Path, content: SmallGguf, key: str) -> int:
    number = content.fields.get(key)
    if type(number) is not int or number < 0:
        raise BadInput(f"{path} is damaged: {key} is missing or is not a whole number.")
    return number
