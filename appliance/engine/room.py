"""Whether there are cells for one sequence more.

Knows no rows and no step.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile

from appliance.engine.cache.cells import Cells
from appliance.engine.sequence import Sequence, SequenceStatus
from appliance.engine.sharing import find_sharing

# Cells for each running answer beyond its next one, so that nobody is admitted just to
# be preempted at once.
_HEADROOM = 16


def has_room(seq: Sequence, running: Collection[Sequence], cells: Cells) -> bool:
    """Whether its known tokens fit beside what older ones have and soon need; kept
    prefixes can go.
    """
    others = list(takewhile(lambda other: other is not seq, running))
    if not others:
        return True  # no request is longer than the pool
    num_needed = len(seq.tokens) + _headroom(seq)
    num_needed += sum(o.num_pending_tokens + _headroom(o) for o in others)
    if not cells.has_checkpoints:  # what others have, or will, is shared, and no copy
        sharing = None
        if seq.status is SequenceStatus.WAITING:
            sharing = find_sharing(seq, running, cells)
        num_needed -= sharing.num_tokens if sharing else cells.num_resident(seq.reusable_tokens)
        num_needed -= sum(o.shares_with.num_tokens for o in others if o.shares_with)
    return cells.num_taken(seq.reusable_tokens) + num_needed <= cells.num_cells


def _headroom(seq: Sequence) -> int:
    """Cells that its answer will soon need after its known tokens; the last token
    never needs one.
    """
    return max(min(_HEADROOM, seq.max_new_tokens - seq.num_new_tokens - 1), 0)
