"""Output tensors as rows that can be read piece
by piece, reordered where GGUF wants it.

Knows no families.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.safetensors_file import StoredTensor, StoredType, to_float32


class RowSource(Protocol):
    """Rows of numbers as stored. Readable from several threads at once.

    `row_group` rows belong together: a read begins and ends at a multiple of it.
    """

    @property
    def stored_type(self) -> StoredType: ...

    @property
    def row_group(self) -> int: ...

    def read_rows(self, start: int, stop: int) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Plain:
    """A tensor's rows in the checkpoint's order."""

    tensor: StoredTensor
    row_group: int = 1

    @property
    def stored_type(self) -> StoredType:
        return self.tensor.stored_type

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.tensor.read_rows(start, stop)

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        return self.tensor.packs

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        return self.tensor.read_packed(start, stop, ggml_type)


@dataclass(frozen=True)
class InterleavedHeads:
    """Rows of a query or key projection, reordered within each head for ggml's
    adjacent-pair rotation.

    transformers rotates row j of a head together with row j + head_dim / 2; ggml's
    GGML_ROPE_TYPE_NORMAL rotates rows 2j and 2j + 1. Hence the first half goes to the
    even rows and the second to the odd ones.
    """

    tensor: StoredTensor
    head_dim: int

    @property
    def stored_type(self) -> StoredType:
        return self.tensor.stored_type

    @property
    def row_group(self) -> int:
        return self.head_dim

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        order: NDArray[np.intp] = (
            np.arange(self.head_dim).reshape(2, self.head_dim // 2).T.reshape(-1)
        )
        return order

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.in_order(self.tensor.read_rows(start, stop))

    def in_order(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The rows of whole heads as ggml wants them."""
        heads = rows.reshape(-1, self.head_dim, rows.shape[-1])
        return heads[:, self._order].reshape(rows.shape)

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        return self.tensor.packs

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        return self.in_order(self.tensor.read_packed(start, stop, ggml_type))


@dataclass(frozen=True)
class OnePlus:
    """A vector of norm weights stored as the difference from one (Gemma): ggml
    multiplies by the weight itself.

    The sum is taken in float32, as transformers does.
    """

    tensor: StoredTensor
    stored_type: StoredType = StoredType.F32
    row_group: int = 1

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        difference = to_float32(self.tensor.read_rows(start, stop), self.tensor.stored_type)
        weights: NDArray[np.float32] = difference + np.float32(1.0)
        return weights


@dataclass(frozen=True)
class Stacked:
    """Matrices of one shape and type, one after the other: the experts of a layer as
    one tensor of three axes.
    """

    tensors: tuple[StoredTensor, ...]
    row_group: int = 1

    @property
    def stored_type(self) -> StoredType:
        return self.tensors[0].stored_type

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        parts = [tensor.read_rows(first, last) for tensor, first, last in self.pieces(start, stop)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        first, *others = self.tensors
        return [name for name in first.packs if all(name in other.packs for other in others)]

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        parts = [
            tensor.read_packed(first, last, ggml_type)
            for tensor, first, last in self.pieces(start, stop)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[StoredTensor, int, int]]:
        """The rows `start` to `stop` as rows of each matrix."""
        rows_each = self.tensors[0].num_rows
        while start < stop:
            index, first = divmod(start, rows_each)
            count = min(stop - start, rows_each - first)
            yield self.tensors[index], first, first + count
            start += count


@dataclass(frozen=True)
class Computed:
    """A small vector computed from the config, one value per row."""

    values: NDArray[np.float32]
    stored_type: StoredType = StoredType.F32
    row_group: int = 1

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        return self.values[start:stop].reshape(-1, 1)


def stored_tensors(source: RowSource) -> tuple[StoredTensor, ...]:
    """The checkpoint's tensors that a source's rows are of; none where they are computed."""
    inner = getattr(source, "source", source)  # of one that turns or computes another's rows
    if isinstance(inner, Stacked):
        return inner.tensors
    tensor = getattr(inner, "tensor", None)
    return (tensor,) if isinstance(tensor, StoredTensor) else ()


@runtime_checkable
class PackedRows(Protocol):
    """A source of rows that may have blocks of them."""

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]: ...

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]: ...


def packs(source: RowSource) -> Sequence[GGMLQuantizationType]:
    """The types whose blocks hold the same numbers as the quantized rows of `source`, the
    smallest first.
    """
    return source.packs if isinstance(source, PackedRows) else ()


def read_packed(
    source: RowSource, start: int, stop: int, ggml_type: GGMLQuantizationType
) -> NDArray[np.uint8]:
    """The rows of `source` as blocks of one of its `packs`, shape (rows, bytes of a row)."""
    assert isinstance(source, PackedRows), f"{type(source).__name__} has no blocks"
    return source.read_packed(start, stop, ggml_type)


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the GGUF: its name, its shape with the outermost axis first, and
    where its rows come from.
    """

    name: str
    shape: tuple[int, ...]
    source: RowSource

    @property
    def row_items(self) -> int:
        """Items per row; a vector has rows of 1."""
        return self.shape[-1] if len(self.shape) > 1 else 1

    @property
    def num_rows(self) -> int:
        return self.num_items // self.row_items

    @property
    def num_items(self) -> int:
        return math.prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        return self.num_items * self.source.stored_type.dtype.itemsize
