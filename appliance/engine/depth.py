"""How many drafted tokens pay in the next step, over all slots together. Knows no drafter and no tokens.

What a drafted token is worth: the chance that it is accepted, times what a token costs without drafts. What it costs:
the step's time with so many rows more, by the learned `StepCost`, which has plateaus and cliffs, so every number is
weighed. Chances are learned by position for each slot, beside what all slots have in common.

Nobody pays for somebody else's drafts: no stream is expected to be slower than without by more than `_MOST_SLOWDOWN`.
Drafting never costs more than it may: what was lost to it so far is measured by real step times, and may not exceed
`_SHARE` of all decoding time and what was saved before. Trying again what did not pay is bounded by that as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

_MOST_POSITIONS = 8  # chances of later ones are that of the last
_SLOT_DECAY = 0.9  # per observation of a position: about the last ten count
_SHARED_DECAY = 0.98
_SHARED_WEIGHT = 1.0  # what all slots have in common counts like so many observations of a slot's own
_FIRST_CHANCES = (0.4, 0.6, 0.8)  # by grade, before anything is known
_FIRST_WEIGHT = 2.0
_LEAST_GAIN = 0.02  # below it, of the time of a token, estimates are no better than guesses
_SHARE = 0.008  # of decoding time that drafting may lose
_FIRST_CREDIT = 2.0  # steps' time that may be lost before anything was saved
_MOST_CREDIT = 30.0  # steps' time: what was saved long ago does not excuse what is lost now
_MOST_SLOWDOWN = 0.02  # of a stream that gets no drafted tokens, by those of others
_TRUST_OF_OTHERS = 0.5  # of what is expected of the stream that gains least: it pays if that is wrong
_TRUST = 0.8  # of what is expected, in weighing what may be lost
_LEAST_PAUSE = 16  # steps between two trials of what is not expected to pay


@dataclass(frozen=True)
class Offer:
    """Up to `num_tokens` drafted tokens for `slot`; `grade` as of a `Proposal`."""

    slot: int
    num_tokens: int
    grade: int = 0


@dataclass
class Gain:
    """What drafting brought, in tokens and milliseconds: `expected_ms` when it was decided, `real_ms` by the clock."""

    num_drafted: int = 0
    num_accepted: int = 0
    expected_ms: float = 0.0
    real_ms: float = 0.0


@dataclass
class _Chance:
    """Decayed count of trials and successes."""

    trials: float = 0.0
    successes: float = 0.0

    def add(self, success: bool, decay: float) -> None:
        self.trials = decay * self.trials + 1
        self.successes = decay * self.successes + success


@dataclass
class _Decision:
    """The step in progress: who drafts how much, and what the step would take without."""

    depths: dict[int, int]
    grades: dict[int, int]
    without_ms: float
    token_ms: float
    expected_ms: float


@dataclass
class _Chances:
    """By grade and position."""

    known: dict[tuple[int, int], _Chance] = field(default_factory=dict)

    def of(self, grade: int, position: int) -> _Chance:
        return self.known.setdefault((grade, min(position, _MOST_POSITIONS - 1)), _Chance())


class DepthController:
    """Called once before each step that has offers (`choose`), and once behind every step (`observe`)."""

    def __init__(self) -> None:
        self._shared = _Chances()
        self._slots: dict[int, _Chances] = {}
        self._decision: _Decision | None = None
        self._credit_ms: float | None = None  # None until the first step's time is known
        self._num_steps = 0
        self._next_trial = 0
        self._pause = _LEAST_PAUSE
        self.gain = Gain()

    def choose(
        self,
        offers: Seq[Offer],
        num_streams: int,
        most_rows: int,
        token_ms: float,
        step_ms: Callable[[int], float],
    ) -> dict[int, int]:
        """How many tokens of each offer to verify, by slot; nothing for those left out.

        `num_streams` decode, offered something or not. `token_ms` is what a token costs without drafts, `step_ms(n)`
        the step with n drafted rows.
        """
        self._decision = None
        ranked = self._ranked(offers)[:most_rows]
        if not ranked or token_ms <= 0:
            return {}
        without_ms = step_ms(0)
        if self._credit_ms is None:
            self._credit_ms = _FIRST_CREDIT * without_ms
        num_rows, gain_ms = self._best(ranked, num_streams, token_ms, without_ms, step_ms)
        if gain_ms < _LEAST_GAIN * token_ms and self._num_steps < self._next_trial:
            return {}
        if not num_rows:
            return {}
        depths: dict[int, int] = {}
        for _, slot in ranked[:num_rows]:
            depths[slot] = depths.get(slot, 0) + 1
        if gain_ms < _LEAST_GAIN * token_ms:
            self._next_trial = self._num_steps + self._pause
            self._pause *= 2
        grades = {offer.slot: offer.grade for offer in offers}
        self._decision = _Decision(depths, grades, without_ms, token_ms, gain_ms)
        return depths

    def observe(self, num_accepted: Mapping[int, int], elapsed_ms: float) -> None:
        """By slot, how many of its drafted tokens were right; empty for a step without drafts."""
        self._num_steps += 1
        decision, self._decision = self._decision, None
        if self._credit_ms is not None:
            self._credit_ms += _SHARE * elapsed_ms
        if decision is None or not num_accepted:
            return
        for slot, num_right in num_accepted.items():
            self._learn(slot, decision.grades[slot], decision.depths[slot], num_right)
        num_saved = sum(num_accepted.values())
        real_ms = num_saved * decision.token_ms - (elapsed_ms - decision.without_ms)
        self.gain.num_drafted += sum(decision.depths.values())
        self.gain.num_accepted += num_saved
        self.gain.expected_ms += decision.expected_ms
        self.gain.real_ms += real_ms
        assert self._credit_ms is not None
        self._credit_ms = min(self._credit_ms + real_ms, _MOST_CREDIT * decision.without_ms)
        if real_ms > 0:
            self._pause = _LEAST_PAUSE

    def release(self, slot: int) -> None:
        """Another sequence will have it."""
        self._slots.pop(slot, None)

    def _ranked(self, offers: Seq[Offer]) -> list[tuple[float, int]]:
        """(chance to be accepted, slot) of every token offered, the likeliest first.

        A token's chance is never more than that of the one before it, so the first n are always beginnings of offers.
        """
        ranked = []
        for offer in offers:
            chance, conditional = 1.0, _FIRST_CHANCES[min(offer.grade, len(_FIRST_CHANCES) - 1)]
            for position in range(offer.num_tokens):
                conditional = self._chance(offer.slot, offer.grade, position, conditional)
                chance *= conditional
                ranked.append((chance, offer.slot))
        ranked.sort(key=lambda pair: -pair[0])
        return ranked

    def _chance(self, slot: int, grade: int, position: int, first: float) -> float:
        """That the token is right if all before it are; `first` is what to expect before anything is known of it."""
        shared = self._shared.of(grade, position)
        common = (shared.successes + _FIRST_WEIGHT * first) / (shared.trials + _FIRST_WEIGHT)
        if slot not in self._slots:
            return common
        own = self._slots[slot].of(grade, position)
        return (own.successes + _SHARED_WEIGHT * common) / (own.trials + _SHARED_WEIGHT)

    def _best(
        self,
        ranked: Seq[tuple[float, int]],
        num_streams: int,
        token_ms: float,
        without_ms: float,
        step_ms: Callable[[int], float],
    ) -> tuple[int, float]:
        """(rows, milliseconds gained) of the best number of drafted rows; 0 rows where none may be tried.

        What counts is time per token: a step that brings more may be as much longer. So the gain of n rows is weighed
        against the time of the longer step.
        """
        best = (0, float("-inf"))
        assert self._credit_ms is not None
        best_rate = float("-inf")
        num_expected = 0.0
        by_slot: dict[int, float] = {}
        for num_rows, (chance, slot) in enumerate(ranked, 1):
            num_expected += chance
            by_slot[slot] = by_slot.get(slot, 0.0) + chance
            more_ms = step_ms(num_rows) - without_ms
            least = 0.0 if len(by_slot) < num_streams else min(by_slot.values())
            slows_others = num_streams > 1 and (
                1 + _TRUST_OF_OTHERS * least < (1 - _MOST_SLOWDOWN) * (1 + more_ms / without_ms)
            )
            if slows_others or more_ms - _TRUST * num_expected * token_ms > self._credit_ms:
                continue
            gain_ms = num_expected * token_ms - more_ms
            rate = gain_ms / (without_ms + more_ms)
            if rate > best_rate:
                best, best_rate = (num_rows, gain_ms), rate
        return best

    def _learn(self, slot: int, grade: int, depth: int, num_right: int) -> None:
        own = self._slots.setdefault(slot, _Chances())
        for position in range(min(depth, num_right + 1)):  # behind the first wrong one nothing is known
            is_right = position < num_right
            own.of(grade, position).add(is_right, _SLOT_DECAY)
            self._shared.of(grade, position).add(is_right, _SHARED_DECAY)
