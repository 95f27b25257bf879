"""Sequences that nobody reads for now: their slots are others', and what they need to go
on is kept.

Knows no time limit and no clients.
"""

from __future__ import annotations

from appliance.engine.runner import Runner
from appliance.engine.sequence import Sequence


class Suspended:
    """By request id. A sequence that was admitted has its sampler beside it, under an id
    that is no slot.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._sequences: dict[int, Sequence] = {}

    def put(self, seq: Sequence) -> None:
        """Takes a sequence's sampler out of its slot."""
        if seq.slot is not None:
            self._runner.move_sampler(seq.slot, _sampler_id(seq))
            seq.has_sampler_elsewhere = True
            seq.slot = None
        seq.num_computed_tokens = 0
        seq.shares_with = None
        self._sequences[seq.request_id] = seq

    def take(self, request_id: int) -> Sequence | None:
        """None: it has ended meanwhile, or never was here."""
        return self._sequences.pop(request_id, None)

    def reopen_sampler(self, seq: Sequence) -> None:
        """Puts it into the slot that the sequence has now."""
        self._runner.move_sampler(_sampler_id(seq), seq.admitted_slot)
        seq.has_sampler_elsewhere = False

    def close_sampler(self, seq: Sequence) -> None:
        """Of a sequence that will not be admitted again."""
        if seq.has_sampler_elsewhere:
            self._runner.close_sampler(_sampler_id(seq))
            seq.has_sampler_elsewhere = False


def _sampler_id(seq: Sequence) -> int:
    return -1 - seq.request_id
