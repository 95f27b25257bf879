"""Rows of a checkpoint's tensors as llama.cpp wants them where it wants more than the
tensor as it is: chosen, reordered, turned on their side, or computed from.

Knows no family.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.safetensors_file import StoredTensor, StoredType, to_float32
from convert.tensors import RowSource

Order = NDArray[np.intp]  # which row (or column) of the checkpoint's comes next
_GAP = 2  # rows so near to each other are read together


@dataclass(frozen=True, eq=False)
class Arranged:
    """Rows in the order of `rows`, which may leave some out, and their columns in that of
    `columns`; None leaves either as it is. A tensor of more axes has its rows numbered
    through.
    """

    tensor: StoredTensor
    rows: Order | None = None
    columns: Order | None = None
    row_group: int = 1

    @property
    def stored_type(self) -> StoredType:
        return self.tensor.stored_type

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        if self.rows is None:
            found = self.tensor.read_rows(start, stop)
        else:
            found = np.concatenate(
                [self._read(run) for run in _runs(self.rows[start:stop])]
                or [self.tensor.read_rows(0, 0)]
            )
        return found if self.columns is None else np.ascontiguousarray(found[:, self.columns])

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        return () if self.columns is not None else self.tensor.packs

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        if self.rows is None:
            return self.tensor.read_packed(start, stop, ggml_type)
        runs = [
            self.tensor.read_packed(int(run[0]), int(run[-1]) + 1, ggml_type)[run - int(run[0])]
            for run in _runs(self.rows[start:stop])
        ]
        return np.concatenate(runs)

    @property
    def turned(self) -> Arranged | None:
        """The same matrices on their side, where that is how the tensor lies."""
        upright = self.tensor.turned
        if upright is None or self.rows is not None:
            return None
        if self.columns is None:
            return Arranged(upright)
        first_rows = np.arange(math.prod(upright.shape[:-2])) * upright.shape[-2]
        return Arranged(upright, rows=(first_rows[:, None] + self.columns).reshape(-1))

    def _read(self, run: Order) -> NDArray[Any]:
        first = int(run[0])
        return self.tensor.read_rows(first, int(run[-1]) + 1)[run - first]


def _runs(order: Order) -> Iterator[Order]:
    """`order` in parts whose rows follow each other closely."""
    steps = np.diff(order)
    breaks = np.flatnonzero((steps < 1) | (steps > _GAP)) + 1
    yield from (run for run in np.split(order, breaks) if len(run))


@dataclass(frozen=True)
class Transposed:
    """Each matrix of `rows` rows turned on its side; a read takes whole matrices, unless they
    lie so already.
    """

    source: Arranged
    rows: int
    columns: int

    @property
    def stored_type(self) -> StoredType:
        return self.source.stored_type

    @property
    def row_group(self) -> int:
        return self.columns if self._upright is None else 1

    @cached_property
    def _upright(self) -> Arranged | None:
        return self.source.turned

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        return () if self._upright is None else self._upright.packs

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        assert self._upright is not None
        return self._upright.read_packed(start, stop, ggml_type)

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        if self._upright is not None:
            return self._upright.read_rows(start, stop)
        first, end = start // self.columns, stop // self.columns
        found = self.source.read_rows(first * self.rows, end * self.rows)
        matrices = found.reshape(-1, self.rows, self.columns)
        return np.ascontiguousarray(matrices.transpose(0, 2, 1)).reshape(-1, self.rows)


Factors = NDArray[np.float32] | np.float32  # one for each row, or one for all


@dataclass(frozen=True, eq=False)
class Scaled:
    """Rows times numbers, in float32."""

    source: RowSource
    factors: Factors
    stored_type: StoredType = StoredType.F32

    @property
    def row_group(self) -> int:
        return self.source.row_group

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        values = to_float32(self.source.read_rows(start, stop), self.source.stored_type)
        factors = self.factors
        scaled: NDArray[np.float32] = values * (
            factors[start:stop, None] if isinstance(factors, np.ndarray) else factors
        )
        return scaled


@dataclass(frozen=True)
class NegatedExp:
    """Minus the exponential, in float32: a state's decay, stored as its logarithm (Mamba,
    gated delta nets), which llama.cpp takes as it is used.
    """

    source: RowSource
    stored_type: StoredType = StoredType.F32

    @property
    def row_group(self) -> int:
        return self.source.row_group

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        logarithms = to_float32(self.source.read_rows(start, stop), self.source.stored_type)
        return -np.exp(logarithms)
