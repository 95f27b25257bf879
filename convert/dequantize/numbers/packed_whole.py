"""Packed tensors that lie across the rows of the weight they hold: they are read once, and
kept while its rows are asked for.

Knows no scheme.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from numpy.typing import NDArray

from convert.safetensors_file import StoredTensor

# of two weights, as they are converted one after the other: words, scales, zero points, groups
NUM_KEPT = 8


class PackedWhole:
    """The last tensors that were read whole. May be asked from several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, str], NDArray[Any]] = OrderedDict()

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """All of a matrix as stored. Raises `DamagedCheckpoint`."""
        key = (id(tensor.file), tensor.name)
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= NUM_KEPT:
                    self._kept.popitem(last=False)
                self._kept[key] = tensor.read_rows(0, tensor.num_rows)
            self._kept.move_to_end(key)
            return self._kept[key]
