"""How much time drafting may still lose, kept by the clock.

Knows no drafter and no tokens.

Drafting never costs more than it may. What it saved and lost is added up in real times:
once for all streams together, and once for each. A stream may fall behind what it would
be without drafts by `_STREAM_LOSS_SHARE` of its time and its initial budget, no
further, whoever the drafts are for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from appliance.engine.drafting.drafter import DraftUse
from appliance.engine.drafting.offers import DraftDecision

_LOSS_SHARE = 0.006  # of decoding time that drafting may lose
_INITIAL_STEPS = 1.0  # steps' time that may be lost before anything was saved
_STREAM_LOSS_SHARE = 0.012  # of one stream's time, which others may have saved
_INITIAL_STREAM_STEPS = 2.0  # likewise
_MAX_STEPS = 30.0  # steps' time: what was saved long ago does not excuse what is lost now
_CATCH_UP_TOKENS = 64  # over which a drafter's catching up pays off


@dataclass
class _StreamBudget:
    """What one slot's stream may still lose, and what drafting brought it."""

    left_ms: float
    use: DraftUse = field(default_factory=DraftUse)


class LossBudget:
    """Milliseconds that drafting may still lose:
    of all streams, on their average, and of each.
    """

    def __init__(self) -> None:
        self._streams: dict[int, _StreamBudget] = {}  # by slot
        self._uncharged_ms = 0.0  # of catching up, not yet charged
        self.left_ms = 0.0
        self.decode_ms: float | None = None  # None until a step's time is known
        self.total = DraftUse()

    @property
    def num_streams(self) -> int:
        return len(self._streams)

    def open(self, slots: Seq[int], decode_ms: float) -> None:
        """Before a choice: a step of these slots takes `decode_ms` without drafts."""
        if self.decode_ms is None:
            self.left_ms = _INITIAL_STEPS * decode_ms
        self.decode_ms = decode_ms
        for slot in slots:
            if slot not in self._streams:
                self._streams[slot] = _StreamBudget(_INITIAL_STREAM_STEPS * decode_ms)

    def left_by_slot(self, slots: Collection[int]) -> dict[int, float]:
        """Milliseconds that each of these streams may still lose."""
        return {slot: self._streams[slot].left_ms for slot in slots}

    def record(self, num_accepted: Mapping[int, int], lost_ms: float, step_ms: float) -> float:
        """After a step: returns the milliseconds
        that it saved, on the average of the streams.
        """
        assert self.decode_ms is not None
        decode_ms, max_ms = self.decode_ms, _MAX_STEPS * self.decode_ms
        for slot, stream in self._streams.items():
            own_ms = num_accepted.get(slot, 0) * decode_ms - lost_ms
            stream.left_ms = min(stream.left_ms + own_ms + _STREAM_LOSS_SHARE * step_ms, max_ms)
            stream.use.real_ms += own_ms
        saved_ms = sum(num_accepted.values()) * decode_ms / max(len(self._streams), 1) - lost_ms
        self.left_ms = min(self.left_ms + saved_ms + _LOSS_SHARE * step_ms, max_ms)
        self.total.real_ms += saved_ms
        return saved_ms

    def correct(self, saved_ms: float) -> None:
        """So much more was saved, by every stream, than had been recorded."""
        self.left_ms += saved_ms
        self.total.real_ms += saved_ms
        for stream in self._streams.values():
            stream.left_ms += saved_ms
            stream.use.real_ms += saved_ms

    def spread_catch_up(self, catch_up_ms: float) -> float:
        """Spreads the time of catching up over the steps that follow; returns what that
        adds to this step's time, mostly less than nothing.
        """
        if not (catch_up_ms or self._uncharged_ms):
            return 0.0
        self._uncharged_ms += catch_up_ms
        now_ms = self._uncharged_ms / _CATCH_UP_TOKENS
        self._uncharged_ms -= now_ms
        return now_ms - catch_up_ms

    def count(
        self,
        decision: DraftDecision,
        depths: Mapping[int, int],
        num_accepted: Mapping[int, int],
    ) -> None:
        """Adds a step's drafted and accepted tokens to what drafting brought."""
        assert self.decode_ms is not None
        for slot, stream in self._streams.items():
            num_expected = decision.num_expected.get(slot, 0.0)
            expected_ms = num_expected * self.decode_ms - decision.extra_ms
            for use, share in ((stream.use, 1.0), (self.total, 1 / len(self._streams))):
                use.expected_ms += share * expected_ms
                use.num_drafted += depths.get(slot, 0)
                use.num_accepted += num_accepted.get(slot, 0)

    def use(self, slot: int) -> DraftUse:
        """What drafting brought the slot's sequence so far."""
        stream = self._streams.get(slot)
        return DraftUse() if stream is None else stream.use

    def release(self, slot: int) -> None:
        """Another sequence will have the slot."""
        self._streams.pop(slot, None)


def catch_up_share_ms(catch_up_ms: float) -> float:
    """What catching up adds to the cost of one token."""
    return catch_up_ms / _CATCH_UP_TOKENS
