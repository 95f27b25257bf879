"""Which prompt in progress another one waits for, instead of computing the same.

Knows no rows and no step.
"""

from __future__ import annotations

from collections.abc import Iterable

from appliance.engine.cache.cells import Cells
from appliance.engine.cache.host_prefixes import num_common
from appliance.engine.sequence import Sequence, SequenceStatus, Sharing

# Computing fewer rows a second time costs no more than the additional step that waiting
# takes.
_MIN_SHARED_ROWS = 16


def find_sharing(seq: Sequence, running: Iterable[Sequence], cells: Cells) -> Sharing | None:
    """The prompt in progress worth waiting for: computing again what it will share
    costs more than a step.
    """
    if seq.reusable_tokens is not seq.tokens or not cells.can_share:
        return None
    num_least = cells.num_known(seq.tokens) + _MIN_SHARED_ROWS
    best: Sharing | None = None
    for owner in running:
        if owner is seq:
            break  # only on earlier ones, so that nobody waits in a circle
        if owner.uses_cache and owner.status in (SequenceStatus.PREFILL, SequenceStatus.SHARING):
            num_shared = num_common(
                owner.tokens, seq.tokens, min(_num_plain(owner, cells), len(seq.tokens) - 1)
            )
            if num_shared >= num_least and _will_be_had(owner, num_shared, cells):
                best, num_least = Sharing(owner, num_shared), num_shared + 1
    return best


def _will_be_had(owner: Sequence, num_shared: int, cells: Cells) -> bool:
    """What an owner has passed already cannot be had of it where it is saved as a whole."""
    return not cells.has_checkpoints or owner.num_computed_tokens < num_shared


def _num_plain(owner: Sequence, cells: Cells) -> int:
    """How many of its tokens' cells others can share: none of moved ones."""
    num_plain = min(len(owner.tokens), cells.num_plain(owner.admitted_slot))
    return num_plain if owner.next_run_at is None else min(num_plain, owner.next_run_at)
