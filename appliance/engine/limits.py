"""What bounds the requests and the steps of an engine. Knows no cells and no cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that a server sets when it starts."""

    ctx: int  # tokens of the longest request, prompt and answer together
    max_waiting_tokens: int  # of the queue's prompts
    max_stall_ms: int  # that a running stream waits at most for somebody else's prompt
    # Rows of a step times the cells that each scans, where memory was planned for their
    # product: attention scores that are all kept at once.
    max_row_cells: int | None = None
    # How long sequences with one set of adapters keep the steps while others wait; None: as
    # long as for somebody else's prompt.
    adapter_turn_ms: int | None = None
