"""What runs in an engine's slots, as a heartbeat reports it:
numbers only, never a text.

Knows nothing inside the engine.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.engine.sequence import Sequence
from appliance.protocol.health import Slot


def slots_of(running: Iterable[Sequence]) -> list[Slot]:
    """One for each that is running; may be called on any thread, so that the numbers
    may be of different moments.
    """
    return [
        Slot(
            id=slot,
            request_id=seq.request_id,
            state=seq.status.value,
            num_prompt_tokens=seq.num_prompt_tokens,
            num_prefilled_tokens=seq.num_prefilled_tokens,
            num_cached_tokens=seq.num_cached_tokens,
            num_new_tokens=seq.num_new_tokens,
            max_new_tokens=seq.max_new_tokens,
        )
        for seq in running
        if (slot := seq.slot) is not None
    ]
