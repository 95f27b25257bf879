"""One `llama_decode`'s rows. Knows no sequences' history and no llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Row(NamedTuple):
    """One token to compute."""

    token: int
    position: int  # in its sequence
    slot: int  # of its sequence
    wants_logits: bool


@dataclass
class Batch:
    """The rows of one step, decode rows first."""

    rows: list[Row] = field(default_factory=list)

    def add(self, token: int, position: int, slot: int, wants_logits: bool) -> int:
        """Appends a row and returns its index, by which its logits are asked for after
        the decode.
        """
        self.rows.append(Row(token, position, slot, wants_logits))
        return len(self.rows) - 1

    @property
    def num_slots(self) -> int:
        return len({row.slot for row in self.rows})

    def __len__(self) -> int:
        return len(self.rows)
