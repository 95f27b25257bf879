"""How much each column of each matrix weighs when it is quantized.

Knows no files and no kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from convert.errors import BadInput
from convert.importance.imatrix_file import ImportanceMatrix
from convert.tensors import OutputTensor


class RowWeights:
    """The columns' weights from an importance matrix, or none at all.

    Raises `BadInput` where it is another model's.
    """

    def __init__(self, matrix: ImportanceMatrix | None, tensors: Sequence[OutputTensor]) -> None:
        self._weights: dict[str, NDArray[np.float32]] = {}  # [matrices, row items]
        if matrix is None:
            return
        for tensor in tensors:
            if len(tensor.shape) < 2:
                # never quantized, whatever it is multiplied with (the gate of Qwen2's
                # shared expert)
                continue
            weights = matrix.weights(tensor.name)
            if weights is not None:
                _check_shape(tensor, weights)
                self._weights[tensor.name] = weights
        if not self._weights:
            some = ", ".join(sorted(matrix.entries)[:3])
            raise BadInput(
                f"The importance matrix belongs to another model: it covers {some}, but no "
                "tensor of this one."
            )

    def of_rows(
        self, tensor: OutputTensor, start: int, stop: int
    ) -> Iterator[tuple[int, int, NDArray[np.float32] | None]]:
        """The rows `start` to `stop` in parts of one matrix each: first row, end, and
        the weights of its columns.
        """
        weights = self._weights.get(tensor.name)
        if weights is None:
            yield start, stop, None
            return
        rows_of_matrix = tensor.num_rows // len(weights)
        while start < stop:
            matrix = start // rows_of_matrix
            end = min((matrix + 1) * rows_of_matrix, stop)
            yield start, end, weights[matrix]
            start = end


def _check_shape(tensor: OutputTensor, weights: NDArray[np.float32]) -> None:
    # the experts of a layer lie in one tensor
    num_matrices = tensor.shape[0] if len(tensor.shape) > 2 else 1
    if weights.shape != (num_matrices, tensor.row_items):
        raise BadInput(
            f"The importance matrix belongs to another model: for {tensor.name} it has "
            f"{weights.shape[0]} x {weights.shape[1]} columns, but the checkpoint has "
            f"{num_matrices} x {tensor.row_items}."
        )
