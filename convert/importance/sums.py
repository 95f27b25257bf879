"""Sums of squares by weight and column, as they grow, and on disk between two runs.

Knows no llama.cpp.

Summed in float64: they are saved exactly, so a run that was interrupted ends with the
bytes of one that was not; and of a hundred thousand squares added up in float32, one
after the other, the last digits are lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.errors import BadInput
from convert.gguf.file import read_gguf, write_gguf
from convert.gguf.header import string, u32
from convert.importance.imatrix_file import COUNTS_SUFFIX, SUMS_SUFFIX, Entry, ImportanceMatrix

_KIND = "unfinished-imatrix"
_IDENTITY, _CHUNK_COUNT = "importance.identity", "importance.chunk_count"


class NotFinite(Exception):
    """NaN or infinite numbers came to be summed."""


@dataclass(frozen=True)
class _Sum:
    """Squares summed, float64 [matrices, columns];
    rows counted, int64 [matrices] or [1].
    """

    squares: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass
class ImportanceSums:
    """Of the first `num_chunks` chunks of a text."""

    num_chunks: int = 0
    _sums: dict[str, _Sum] = field(default_factory=dict)

    def add(
        self, name: str, rows: NDArray[np.float32], matrices_shape: tuple[int, int] = (1, 1)
    ) -> None:
        """What a weight was multiplied with:
        `rows`, shape [outer, matrices, rows, columns].

        `matrices_shape` is the weight's own [outer, matrices]; each of its matrices
        serves several of the rows' where the rows have more. Raises `NotFinite`.
        """
        outer, matrices = matrices_shape
        sums = self._of(name, outer * matrices, rows.shape[3], 1)
        for i, of_outer in enumerate(rows):
            for j, of_matrix in enumerate(of_outer):
                # in place: no copy
                squares = np.einsum("ij,ij->j", of_matrix, of_matrix, dtype=np.float64)
                sums.squares[i % outer * matrices + j % matrices] += squares
                _check_finite(squares)
        sums.counts[0] += rows.shape[0] * rows.shape[1] * rows.shape[2] // (outer * matrices)

    def add_routed(
        self, name: str, rows: NDArray[np.float32], experts: NDArray[np.int32], num_experts: int
    ) -> None:
        """What the experts' matrices were multiplied with.

        `experts`, shape [tokens, used]: where each token was sent. `rows`, shape
        [tokens, used, columns], or [tokens, 1, columns] where all experts of a token
        are given the same. Raises `NotFinite`.
        """
        sums = self._of(name, num_experts, rows.shape[2], num_experts)
        squares = np.broadcast_to(np.square(rows), (*experts.shape, rows.shape[2]))
        by_expert = np.argsort(experts, axis=None, kind="stable")
        tokens, used = np.unravel_index(by_expert, experts.shape)
        found, first, counts = np.unique(
            experts.reshape(-1)[by_expert], return_index=True, return_counts=True
        )
        added = np.add.reduceat(squares[tokens, used], first, axis=0, dtype=np.float64)
        sums.squares[found] += added
        sums.counts[found] += counts
        _check_finite(added)

    @property
    def is_empty(self) -> bool:
        return not self._sums

    def clear(self) -> None:
        self.num_chunks = 0
        self._sums.clear()

    def _of(self, name: str, num_matrices: int, num_columns: int, num_counts: int) -> _Sum:
        found = self._sums.get(name)
        if found is None:
            found = _Sum(np.zeros((num_matrices, num_columns)), np.zeros(num_counts, np.int64))
            self._sums[name] = found
        assert found.squares.shape == (num_matrices, num_columns), (
            f"{name} is multiplied in two ways"
        )
        return found

    def matrix(self, dataset: str, chunk_size: int) -> ImportanceMatrix:
        """Raises `BadInput` for sums that no float32 holds."""
        with np.errstate(over="ignore"):
            entries = {
                name: Entry(sums.squares.astype(np.float32), sums.counts)
                for name, sums in self._sums.items()
            }
        for name, entry in entries.items():
            if not np.isfinite(entry.sums).all():
                raise BadInput(
                    f"The values that {name} is multiplied with are too large for an importance "
                    "matrix."
                )
        return ImportanceMatrix(entries, (dataset,), self.num_chunks, chunk_size)

    def save(self, path: Path, identity: str) -> None:
        """Replaces what is there once it is whole on disk. Raises `BadInput`."""
        tensors: dict[str, NDArray[Any]] = {}
        for name, sums in self._sums.items():
            tensors[name + SUMS_SUFFIX] = sums.squares
            tensors[name + COUNTS_SUFFIX] = sums.counts
        fields = (
            string("general.type", _KIND),
            string(_IDENTITY, identity),
            u32(_CHUNK_COUNT, self.num_chunks),
        )
        write_gguf(path, fields, tensors)


def load_sums(path: Path, identity: str) -> ImportanceSums | None:
    """What `save` left of the same work;
    None if there is nothing, or nothing that can be used.
    """
    try:
        content = read_gguf(path)
        names = [
            name.removesuffix(SUMS_SUFFIX) for name in content.tensors if name.endswith(SUMS_SUFFIX)
        ]
        sums = {
            name: _Sum(content.tensors[name + SUMS_SUFFIX], content.tensors[name + COUNTS_SUFFIX])
            for name in names
        }
        num_chunks = content.fields[_CHUNK_COUNT]
    except (BadInput, KeyError):
        return None  # nothing is lost but time: it is computed anew
    is_ours = (content.fields.get("general.type"), content.fields.get(_IDENTITY)) == (
        _KIND,
        identity,
    )
    return ImportanceSums(num_chunks, sums) if is_ours and isinstance(num_chunks, int) else None


def _check_finite(squares: NDArray[np.float64]) -> None:
    if not np.isfinite(squares).all():
        raise NotFinite
