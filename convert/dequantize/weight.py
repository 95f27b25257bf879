"""A weight that is computed from quantized tensors when its rows are read.

Knows no scheme and no GGUF: which of its blocks hold the same numbers, repack.py says.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.dequantize.numbers.formats import decoded, readable
from convert.dequantize.numbers.packed_whole import PackedWhole
from convert.dequantize.repack import (
    IntegerKind,
    Integers,
    ScaleRounding,
    integer_types,
    pack_integers,
)
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType


@dataclass(frozen=True)
class Shared:
    """What all weights of a checkpoint share while they are read."""

    whole: PackedWhole
    rounding: ScaleRounding


@dataclass(frozen=True, kw_only=True)
class QuantizedWeight(StoredTensor, abc.ABC):
    """A weight of `shape`, whose rows are made from `parts` of the checkpoint.

    `file` and `offset` are those of one part, for messages. Values are float32 unless the
    reference rounds between its operations: then they are of the type that it computes in.
    """

    parts: Mapping[str, StoredTensor]
    shared: Shared

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop`, shape (stop - start, row_items), of `stored_type`.

        Raises `DamagedCheckpoint`.
        """
        if len(self.shape) == 1:  # a matrix of one row, which is a vector in the GGUF
            return self.matrix_rows(0, 1).reshape(-1, 1)[start:stop]
        return self.matrix_rows(start, stop)

    @abc.abstractmethod
    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        """As `read_rows`, of a weight that is no vector: rows of the matrix, or of a stack of
        them one after the other.
        """


@dataclass(frozen=True, kw_only=True)
class IntegerWeight(QuantizedWeight):
    """Whole numbers, each times the scale of its group."""

    kind: IntegerKind

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        return integer_types(self.kind, self.shape[-1])

    @abc.abstractmethod
    def integers(self, start: int, stop: int) -> Integers:
        """The rows `start` to `stop`."""

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.integers(start, stop).floats()

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        rows = self.integers(start, stop)
        return pack_integers(rows, ggml_type, self.name, self.shared.rounding)


def floats_of(tensor: StoredTensor, start: int, stop: int) -> NDArray[np.float32]:
    """Rows `start` to `stop` of a part, decoded."""
    return decoded(tensor.read_rows(start, stop), tensor.stored_type)


def all_of(tensor: StoredTensor) -> NDArray[Any]:
    """A small part as stored, in its shape. Raises `DamagedCheckpoint` if it is empty."""
    if 0 in tensor.shape:
        raise DamagedCheckpoint(f"{tensor.file.path}: {tensor.name} is empty.")
    return tensor.read_rows(0, tensor.num_rows).reshape(tensor.shape)


def matrix_shape(tensor: StoredTensor) -> tuple[int, int]:
    """Rows and columns of a part. Raises `DamagedCheckpoint` if it is no matrix, or empty."""
    if len(tensor.shape) != 2 or min(tensor.shape) < 1:
        raise DamagedCheckpoint(
            f"{tensor.file.path}: {tensor.name} has shape {list(tensor.shape)}, but it must be a "
            "matrix."
        )
    rows, columns = tensor.shape
    return rows, columns


def demand(tensor: StoredTensor, shape: tuple[int, ...] | None, *types: StoredType) -> StoredTensor:
    """`tensor`, if it has this shape (any if None) and one of these types (any number that
    can be decoded if none).

    Raises `DamagedCheckpoint` for a shape, `UnsupportedModel` for a type.
    """
    if shape is not None and tensor.shape != shape:
        raise DamagedCheckpoint(
            f"{tensor.file.path}: {tensor.name} has shape {list(tensor.shape)}, but the weight "
            f"that it belongs to needs {list(shape)}."
        )
    if tensor.stored_type not in types if types else not readable(tensor.stored_type):
        wanted = ", ".join(stored.value for stored in types) or "a type that is known here"
        raise UnsupportedModel(
            f"{tensor.file.path} stores {tensor.name} as {tensor.stored_type.value}, not as "
            f"{wanted}. Use the unquantized checkpoint of this model."
        )
    return tensor
