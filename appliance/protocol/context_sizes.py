"""The sizes of a llama.cpp context, decided once and handed down.

Knows no model and no plan.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ContextSizes:
    """What decides a context's memory, and how its steps are computed."""

    kv_cells: int  # tokens over all sequences
    slots: int  # sequences that run at once
    max_rows: int  # tokens of one decode
    kv_type: str  # of ggml, such as `f16` or `q8_0`, or two as `K/V`
    threads: int  # that compute a single row
    batch_threads: int  # that compute several rows
    ubatch_rows: int  # rows of a decode that are computed together
    flash_attention: bool = False  # quantized V needs it
    max_draft_rows: int = 0  # drafted tokens in one decode, beside one row per slot
    # Of a model with a state: how many earlier ones are kept of each sequence, so that
    # as many tokens can be taken back.
    rollback_states: int = 0

    @property
    def max_logit_rows(self) -> int:
        """Of one decode: one per sequence, llama.cpp's scratch one included,
        and one per drafted token.
        """
        return self.slots + 1 + self.max_draft_rows
