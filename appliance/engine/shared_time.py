"""Whose a step's time is: divided among the requests that it has rows of.

Knows no clock and no cost model: what is divided was measured.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.engine.sequence import Sequence, SequenceStatus
from appliance.engine.step import ScheduledStep


def share_time(
    step: ScheduledStep, sequences: Mapping[int, Sequence], *, decode_ms: float, draft_ms: float
) -> None:
    """Before the step is committed. `draft_ms`, which proposing took, is of those that
    something was proposed for; where that was nobody, it is everybody's.
    """
    num_drafted = sum(map(len, step.drafted.values()))
    if not num_drafted:
        decode_ms += draft_ms
    row_ms = decode_ms / len(step.batch)
    drafted_row_ms = row_ms + draft_ms / max(num_drafted, 1)
    for request_id, num_rows in step.computed.items():
        seq = sequences[request_id]
        if seq.times is None:
            continue
        is_prompt = seq.status is not SequenceStatus.DECODE
        seq.times.add_known(num_rows * row_ms, is_prompt=is_prompt)
        if drafted := step.drafted.get(request_id):
            seq.times.add_drafted(len(drafted) * drafted_row_ms)
