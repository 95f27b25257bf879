"""Weights stored one number each, FP8 or int8, times the scales of a grid: one for the
whole, for each row, for each group of a row's columns, or for each block of rows and columns.

Knows no scheme's names.

A value is the stored number, less its zero point, times its scale, rounded once: to
float32. References round that product to their own type in addition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.dequantize.numbers.formats import decoded, digits_of, from_e8m0
from convert.dequantize.repack import (
    IntegerKind,
    Integers,
    integer_types,
    pack_integers,
)
from convert.dequantize.weight import QuantizedWeight, Shared, demand
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType


@dataclass(frozen=True)
class Grid:
    """How many rows and columns of a matrix share a scale; of the whole matrix, 1 x 1."""

    rows: int  # of scales, in each matrix
    columns: int
    block_rows: int
    block_columns: int


def find_grid(
    weight: tuple[int, ...], scale: StoredTensor, block: Sequence[int] | None = None
) -> Grid:
    """The grid that a scale's shape makes of a weight's; `block` is what the config says of
    its blocks, which matters only where they do not divide the weight.

    Raises `DamagedCheckpoint` where neither fits.
    """
    num_rows, num_columns = weight[-2:]
    matrices = math.prod(weight[:-2])
    shape = scale.shape
    if math.prod(shape) == matrices:  # one scale for each matrix
        return Grid(1, 1, num_rows, num_columns)
    if math.prod(shape) == matrices * num_rows and shape[-1:] in ((1,), (num_rows,)):
        return Grid(num_rows, 1, 1, num_columns)
    if len(shape) == len(weight) and min(shape) > 0 and shape[:-2] == weight[:-2]:
        rows, columns = shape[-2:]
        if block is not None and len(block) == 2 and all(type(n) is int and n > 0 for n in block):
            block_rows, block_columns = block
            if (-(-num_rows // block_rows), -(-num_columns // block_columns)) == (rows, columns):
                return Grid(rows, columns, block_rows, block_columns)
        if num_rows % rows == 0 and num_columns % columns == 0:
            return Grid(rows, columns, num_rows // rows, num_columns // columns)
    raise DamagedCheckpoint(
        f"{scale.file.path}: {scale.name} has shape {list(shape)}, which divides the weight of "
        f"shape {list(weight)} into no whole blocks."
    )


@dataclass(frozen=True, kw_only=True)
class ScaledWeight(QuantizedWeight):
    """`parts`: `codes` of the weight's own shape, `scale`, and `zero` of the scale's shape
    where the numbers have a zero point.
    """

    grid: Grid
    bits: int  # of each whole number that are used

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        parts = self.parts
        whole = (parts["codes"], parts["zero"]) if "zero" in parts else (parts["codes"],)
        if any(part.stored_type is not StoredType.I8 for part in whole):
            return ()
        half, most = 1 << (self.bits - 1), (1 << self.bits) - 1
        kind = IntegerKind(
            low=-most if "zero" in parts else -half,
            high=most if "zero" in parts else half - 1,
            bits=self.bits,
            scale_digits=digits_of(parts["scale"].stored_type),
            group_items=self.grid.block_columns,
        )
        return integer_types(kind, self.shape[-1])

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        codes = self.parts["codes"]
        values = decoded(codes.read_rows(start, stop).reshape(stop - start, -1), codes.stored_type)
        if "zero" in self.parts:
            values -= self._spread(self.parts["zero"], start, stop)
        values *= self._spread(self.parts["scale"], start, stop)
        return values

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        numbers = self.parts["codes"].read_rows(start, stop).astype(np.int16)
        if "zero" in self.parts:
            numbers -= self._spread(self.parts["zero"], start, stop).astype(np.int16)
        scales = self._rows_of_grid(self.parts["scale"], start, stop)
        rows = Integers(numbers, scales, self.grid.block_columns)
        return pack_integers(rows, ggml_type, self.name, self.shared.rounding)

    def _rows_of_grid(self, part: StoredTensor, start: int, stop: int) -> NDArray[np.float32]:
        """The numbers of a part for each of these rows: (rows, columns of the grid)."""
        grid = self.grid
        matrix, row = np.divmod(np.arange(start, stop), self.parts["codes"].shape[-2])
        index = matrix * grid.rows + row // grid.block_rows
        raw = _as_matrix(part, grid.columns).read_rows(int(index[0]), int(index[-1]) + 1)
        if part.stored_type is StoredType.U8 and part is self.parts["scale"]:
            values = from_e8m0(raw)  # as MXFP8 stores its powers of two
        else:
            values = decoded(raw, part.stored_type)
        rows: NDArray[np.float32] = values[index - index[0]]
        return rows

    def _spread(self, part: StoredTensor, start: int, stop: int) -> NDArray[np.float32]:
        """A part's number for each column; for all of them at once where they share it."""
        rows = self._rows_of_grid(part, start, stop)
        if self.grid.columns == 1:
            return rows
        spread: NDArray[np.float32] = rows[:, np.arange(self.shape[-1]) // self.grid.block_columns]
        return spread


def _as_matrix(part: StoredTensor, columns: int) -> StoredTensor:
    """`part` with rows of `columns` items."""
    return StoredTensor(
        name=part.name,
        stored_type=part.stored_type,
        shape=(math.prod(part.shape) // columns, columns),
        offset=part.offset,
        file=part.file,
    )


def scaled_weight(
    codes: StoredTensor,
    scale: StoredTensor,
    shared: Shared,
    *,
    name: str | None = None,
    zero: StoredTensor | None = None,
    block: Sequence[int] | None = None,
    bits: int = 8,
) -> StoredTensor:
    """The weight of `codes`, under their name if there is no other; `bits` is how many of
    each whole number are used.

    Raises `DamagedCheckpoint` where the shapes do not fit, `UnsupportedModel` for a type that
    is not known here.
    """
    demand(codes, None)
    demand(scale, None)
    if len(codes.shape) < 2 or min(codes.shape) < 1:
        raise UnsupportedModel(
            f"{codes.file.path}: {codes.name} is quantized, but no matrix. Use the "
            "unquantized checkpoint of this model."
        )
    parts = {"codes": codes, "scale": scale}
    if zero is not None:
        parts["zero"] = demand(zero, scale.shape)
    return ScaledWeight(
        name=name or codes.name,
        stored_type=StoredType.F32,
        shape=codes.shape,
        offset=codes.offset,
        file=codes.file,
        parts=parts,
        shared=shared,
        grid=find_grid(codes.shape, scale, block),
        bits=bits,
    )
