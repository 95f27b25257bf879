"""Accounting of KV cells: how many each admitted sequence may come to need. Knows no tokens and no llama.cpp.

Admission reserves the longest a sequence may become, so that no running sequence can ever be left without a cell.
"""

from __future__ import annotations


class Cells:
    """A pool of `num_cells` KV cells, given out as reservations by request id."""

    def __init__(self, num_cells: int) -> None:
        self.num_cells = num_cells
        self._reserved: dict[int, int] = {}

    @property
    def num_free(self) -> int:
        return self.num_cells - sum(self._reserved.values())

    def reserve(self, request_id: int, num_cells: int) -> bool:
        """Sets cells aside; False, and nothing changed, if they are not there."""
        assert request_id not in self._reserved
        if num_cells > self.num_free:
            return False
        self._reserved[request_id] = num_cells
        return True

    def release(self, request_id: int) -> None:
        del self._reserved[request_id]
