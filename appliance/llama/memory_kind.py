"""What the memory of a loaded model is like: cells that sequences may share, a window of
them, or a state that all tokens have made.

Knows no context and no sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llama_cpp


@dataclass(frozen=True)
class MemoryKind:
    """As llama.cpp tells it of a model (`llama_model_is_recurrent`, `_is_hybrid`,
    `_n_swa`).
    """

    has_state: bool  # recurrent, alone or beside attention
    num_window: int  # tokens that some layers look back at; 0: all look at all

    @classmethod
    def of(cls, handle: Any) -> MemoryKind:
        has_state = llama_cpp.llama_model_is_recurrent(handle) or llama_cpp.llama_model_is_hybrid(
            handle
        )
        return cls(bool(has_state), llama_cpp.llama_model_n_swa(handle))

    @property
    def can_roll_back(self) -> bool:
        """Whether a sequence's last tokens can be taken back, however many the last step
        computed.

        A recurrent state is what all tokens have made of it: only earlier ones that were
        kept can be gone back to (`Context.rollback_states`). Of a sliding window the last
        step's tokens can be, for it forgets only what lies behind the window of that
        step's first token.
        """
        return not self.has_state

    @property
    def shares_prefixes(self) -> bool:
        """Whether one cell may belong to many sequences, as in a plain attention cache."""
        return not self.has_state and self.num_window == 0
