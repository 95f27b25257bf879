"""How many drafted tokens pay in the next step, over all slots together.

Knows no drafter and no tokens.

What a drafted token is worth: the chance that it is accepted, times what a token costs
without drafts. What it costs: the step's time with so many rows more, by the learned
`StepCost`, which has plateaus and cliffs, so every number is weighed; and the time of
the drafter, where it takes any. Chances are learned by position for each slot, beside
what all slots have in common.

Drafting never costs more than it may. What was lost to it so far is kept in books, by
real times: one for all streams together, one for each. A stream may be behind what it
would be without drafts by `_STREAM_SHARE` of its time and the first credit, no further,
whoever the drafts are for. Trying again what did not pay is bounded by that as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from appliance.engine.chances import Chances
from appliance.engine.speculation import DraftCost, DraftUse

_LEAST_GAIN = 0.02  # below it, of the time of a token, estimates are no better than guesses
_SHARE = 0.006  # of decoding time that drafting may lose
_FIRST_CREDIT = 1.0  # steps' time that may be lost before anything was saved
# the same of one stream, which others may have saved
_STREAM_SHARE, _FIRST_STREAM_CREDIT = 0.012, 2.0
_MOST_CREDIT = 30.0  # steps' time: what was saved long ago does not excuse what is lost now
# every number of rows up to the first is weighed, then only multiples
_ALL_ROWS, _ROW_STRIDE = 8, 4
_MOST_REST = 4  # steps at most between two choices, where nothing was worth drafting
_MOST_STAKE = 1.0  # steps' time that one step may lose beyond what is on the books
_TRUST = 0.8  # of what is expected, in weighing what may be lost
# of decoding time that trials of what is not expected to pay may take: the less, the
# rarer
_TRIAL_SHARE = 0.002
_LEAST_PAUSE = 4  # steps between two of them, where the last one did not pay
_PAUSE_IN_DEBT = 8  # steps or more between two looks for drafts while nothing may be lost
# steps with drafts, before one without shows again what that takes
_LEAST_IN_A_ROW, _MOST_IN_A_ROW = 4, 64
# in what steps without drafts take: where drafts save more than that, it need not be
# known better
_MOST_ERROR = 0.4
_FIRST_PLAIN = 1  # steps without drafts, before any with so many streams
# of its time that such a step may differ from what was expected, for the next to come
# later
_SURE = 0.1
_MOST_CORRECTION = 0.5  # by one step: it may have been unlucky itself
# so many times its expected time a step counts at most: the machine was busy with
# something else
_HICCUP = 2.0
_HORIZON = 64  # tokens over which a drafter's catching up pays off


@dataclass(frozen=True)
class Offer:
    """Up to `num_tokens` drafted tokens for `slot`; `grade` as of a `Proposal`."""

    slot: int
    num_tokens: int
    grade: int = 0
    takes_time: bool = False


@dataclass(frozen=True)
class Bid:
    """Offers that exclude all other bids' of this step; `cost` is that of the offers
    that take time.
    """

    offers: Seq[Offer]
    cost: DraftCost | None = None


@dataclass(frozen=True)
class Moment:
    """The step to come: which slots decode in it, how many drafted rows there is room
    for, and what it takes.

    `alone_ms` is a step with the decoding rows only, `step_ms(n)` this one with n
    drafted rows.
    """

    slots: Seq[int]
    most_rows: int
    alone_ms: float
    step_ms: Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Which bid, and how deep each slot drafts."""

    bid: int
    depths: dict[int, int]
    without_ms: float
    more_ms: float
    by_slot: dict[int, float]  # accepted tokens expected


@dataclass
class _Stream:
    """A slot's book: what drafting brought its stream, in milliseconds that it would
    otherwise have taken longer.
    """

    credit_ms: float
    use: DraftUse = field(default_factory=DraftUse)


@dataclass(kw_only=True)
class _Best:
    """The best number of rows of a bid."""

    num_rows: int
    gain_ms: float
    rate: float
    more_ms: float
    depths: dict[int, int]
    by_slot: dict[int, float]


class DepthController:
    """Per step: `may_draft`, then perhaps `choose`, then `observe`."""

    def __init__(self) -> None:
        self._chances = Chances()
        self._streams: dict[int, _Stream] = {}
        self._next_trial = [0, 0]  # by the number of the bid
        self._decision: Decision | None = None
        self._alone_ms: float | None = None  # None until a step's time is known
        self._credit_ms = 0.0
        self._owed_ms = 0.0  # for catching up, not yet written off
        self._num_steps = 0
        self._rest, self._rest_until = 1, 0
        self._next_look = 0
        self._last_look_ms = 0.0
        self._num_in_a_row = 0
        self._most_in_a_row = _LEAST_IN_A_ROW
        self._num_streams = 0
        self._was_plain = False  # the step before
        self._is_comparing = False  # the next step without drafts shows what is usual
        self._num_plain: dict[int, int] = {}  # steps without drafts, by the number of streams
        # by what was expected of steps without: all time that tokens since would have
        # taken
        self._compared_ms = 0.0
        self._drafted_ms = 0.0  # what they took in fact
        self.total = DraftUse()

    def wants_comparison(self, num_streams: int) -> bool:
        """Whether a step without drafts should now show what the others are compared with."""
        self._num_streams = num_streams
        is_new = self._num_plain.get(num_streams, 0) < _FIRST_PLAIN
        return is_new or self._is_comparing or self._num_in_a_row >= self._most_without_comparison

    def may_draft(self) -> bool:
        """Whether looking for drafts is worth its own time now."""
        if self._num_steps < self._rest_until:
            return False
        if self._credit_ms >= 0:
            return True
        if self._num_steps < self._next_look:
            return False
        assert self._alone_ms is not None
        pause = self._last_look_ms / (_TRIAL_SHARE * self._alone_ms)
        self._next_look = self._num_steps + max(int(pause), _PAUSE_IN_DEBT)
        return True

    def choose(self, moment: Moment, bids: Seq[Bid]) -> Decision | None:
        """The bid and the depths that are expected to bring most tokens for their time;
        None where nothing is to be drafted.
        """
        self._begin(moment)
        without_ms = moment.step_ms(0)
        best, best_at = None, 0
        for at, bid in enumerate(bids):
            found = self._best(moment, bid, without_ms)
            if (
                found is not None
                and self._may_try(at, found, moment)
                and (best is None or found.rate > best.rate)
            ):
                best, best_at = found, at
        if best is None:
            self._rest = min(2 * self._rest, _MOST_REST)
            self._rest_until = self._num_steps + self._rest
            return None
        self._rest = 1
        if self._is_trial(best, moment):
            pause = best.more_ms / (_TRIAL_SHARE * without_ms)
            self._next_trial[best_at] = self._num_steps + max(int(pause), _LEAST_PAUSE)
        self._decision = Decision(
            bid=best_at,
            depths=best.depths,
            without_ms=without_ms,
            more_ms=best.more_ms,
            by_slot=best.by_slot,
        )
        return self._decision

    def observe(
        self,
        grades: Mapping[int, int],
        depths: Mapping[int, int],
        num_accepted: Mapping[int, int],
        step_ms: float,
        drafting_ms: float,
        owed_ms: float = 0.0,
    ) -> None:
        """After a step that `choose` decided on: what was drafted in fact, by slot, and
        how many of it were right.

        `drafting_ms` is what drafting took beside the step, `owed_ms` of it for
        catching up.
        """
        decision, self._decision = self._decision, None
        assert decision is not None
        if not depths:
            self.observe_without(step_ms, drafting_ms, None)
            return
        self._num_steps += 1
        self._num_in_a_row += 1
        if self._alone_ms is not None:
            self._compared_ms += self._alone_ms * (
                1 + sum(num_accepted.values()) / max(len(self._streams), 1)
            )
            self._drafted_ms += step_ms + drafting_ms
        for slot, num_right in num_accepted.items():
            self._chances.learn(slot, grades[slot], depths[slot], num_right)
        step_ms = min(step_ms, _HICCUP * (decision.without_ms + decision.more_ms))
        lost_ms = step_ms - decision.without_ms + drafting_ms + self._write_off(owed_ms)
        if self._book(num_accepted, lost_ms, step_ms) > 0:
            self._next_trial[decision.bid] = 0
        self._count(decision, depths, num_accepted)

    def observe_without(
        self, step_ms: float, drafting_ms: float, expected_ms: float | None
    ) -> None:
        """After a step without drafts; `drafting_ms` is what looking for some took nevertheless.

        `expected_ms` is what was expected of it, None beside a prompt. The first step
        behind one with drafts or behind a prompt takes longer: llama.cpp has to build
        its graph anew. After drafts that is on the books; only the second one shows
        what is usual.
        """
        self._decision = None
        self._num_steps += 1
        self._last_look_ms = drafting_ms or self._last_look_ms
        lost_ms = drafting_ms + self._write_off(0.0)
        if expected_ms is not None:
            error_ms = min(
                max(step_ms - expected_ms, -_MOST_CORRECTION * expected_ms),
                _MOST_CORRECTION * expected_ms,
            )
            if self._num_in_a_row:
                lost_ms += error_ms
            elif self._was_plain:
                self._num_plain[self._num_streams] = self._num_plain.get(self._num_streams, 0) + 1
                self._correct(error_ms / expected_ms)
            self._is_comparing = self._num_in_a_row >= self._most_without_comparison
        self._num_in_a_row = 0
        self._was_plain = expected_ms is not None
        if self._alone_ms is not None:
            self._book({}, lost_ms, step_ms)

    def use(self, slot: int) -> DraftUse:
        """Of the slot's sequence, so far."""
        stream = self._streams.get(slot)
        return DraftUse() if stream is None else stream.use

    def release(self, slot: int) -> None:
        """Another sequence will have it."""
        self._streams.pop(slot, None)
        self._chances.forget(slot)

    @property
    def _most_without_comparison(self) -> int:
        """Steps with drafts in a row."""
        is_surely_better = self._drafted_ms < (1 - _MOST_ERROR) * self._compared_ms
        return _MOST_IN_A_ROW if is_surely_better else self._most_in_a_row

    def _begin(self, moment: Moment) -> None:
        if self._alone_ms is None:
            self._credit_ms = _FIRST_CREDIT * moment.alone_ms
        self._alone_ms = moment.alone_ms
        for slot in moment.slots:
            if slot not in self._streams:
                self._streams[slot] = _Stream(_FIRST_STREAM_CREDIT * moment.alone_ms)

    def _best(self, moment: Moment, bid: Bid, without_ms: float) -> _Best | None:
        """The number of drafted rows with the best rate, of those whose loss could be
        borne; None where there is none.

        What counts is time per token: a step that brings more may be as much longer. So
        the gain of n rows is weighed against the time of the longer step.
        """
        cost = bid.cost or DraftCost(0.0, 0.0)
        alone_ms, num_streams = moment.alone_ms, len(moment.slots)
        token_ms, credit_ms = alone_ms / num_streams, max(self._credit_ms, 0.0)
        slack_ms = {slot: self._streams[slot].credit_ms for slot in moment.slots}
        best: _Best | None = None
        depths: dict[int, int] = {}
        by_slot: dict[int, float] = {}
        num_expected, deepest, best_at = 0.0, 0, 0
        ranked = self._chances.ranked(
            [(o.slot, o.grade, o.num_tokens, o.takes_time) for o in bid.offers]
        )
        del ranked[moment.most_rows :]
        most_ms = sum(chance for chance, _, _ in ranked) * token_ms
        for num_rows, (chance, slot, takes_time) in enumerate(ranked, 1):
            num_expected += chance
            by_slot[slot] = by_slot.get(slot, 0.0) + chance
            depth = depths[slot] = depths.get(slot, 0) + 1
            if takes_time:
                deepest = max(deepest, depth)
            slack_ms[slot] += _TRUST * chance * alone_ms
            if num_rows > _ALL_ROWS and num_rows % _ROW_STRIDE and num_rows < len(ranked):
                continue  # weighing takes time too
            more_ms = max(moment.step_ms(num_rows) - without_ms, 0.0)  # a longer step is no quicker
            if deepest:
                more_ms += (
                    cost.begin_ms + cost.token_ms * (deepest - 1) + cost.catch_up_ms / _HORIZON
                )
            if num_rows == 1 and more_ms - most_ms > credit_ms:
                return None  # whatever is accepted
            most_lost_ms = min(
                num_rows * token_ms,  # even if all are accepted
                credit_ms + _MOST_STAKE * alone_ms,  # for nothing may be accepted
                credit_ms + _TRUST * num_expected * token_ms,
                max(min(slack_ms.values()), 0.0),
            )
            if more_ms >= most_lost_ms:
                continue
            gain_ms = num_expected * token_ms - more_ms
            rate = gain_ms / (without_ms + more_ms)
            if best is None or rate > best.rate:
                best, best_at = (
                    _Best(
                        num_rows=num_rows,
                        gain_ms=gain_ms,
                        rate=rate,
                        more_ms=more_ms,
                        depths={},
                        by_slot={},
                    ),
                    num_rows,
                )
        if best is None:
            return None
        for chance, slot, _ in ranked[:best_at]:
            best.depths[slot] = best.depths.get(slot, 0) + 1
            best.by_slot[slot] = best.by_slot.get(slot, 0.0) + chance
        return best

    def _is_trial(self, best: _Best, moment: Moment) -> bool:
        return (
            best.gain_ms < _LEAST_GAIN * moment.alone_ms / len(moment.slots) or self._credit_ms < 0
        )

    def _may_try(self, at: int, best: _Best, moment: Moment) -> bool:
        return not self._is_trial(best, moment) or self._num_steps >= self._next_trial[at]

    def _write_off(self, owed_ms: float) -> float:
        """The difference to what is written off now of all catching up."""
        if not (owed_ms or self._owed_ms):
            return 0.0
        self._owed_ms += owed_ms
        now_ms = self._owed_ms / _HORIZON
        self._owed_ms -= now_ms
        return now_ms - owed_ms

    def _book(self, num_accepted: Mapping[int, int], lost_ms: float, step_ms: float) -> float:
        """Milliseconds saved by this step, on the average of the streams."""
        assert self._alone_ms is not None
        alone_ms, most_ms = self._alone_ms, _MOST_CREDIT * self._alone_ms
        for slot, stream in self._streams.items():
            own_ms = num_accepted.get(slot, 0) * alone_ms - lost_ms
            stream.credit_ms = min(stream.credit_ms + own_ms + _STREAM_SHARE * step_ms, most_ms)
            stream.use.real_ms += own_ms
        saved_ms = sum(num_accepted.values()) * alone_ms / max(len(self._streams), 1) - lost_ms
        self._credit_ms = min(self._credit_ms + saved_ms + _SHARE * step_ms, most_ms)
        self.total.real_ms += saved_ms
        return saved_ms

    def _correct(self, error: float) -> None:
        """Steps without drafts take so much more, of their time, than was expected: and
        so they did before.
        """
        if not self._compared_ms:
            return
        if abs(error) <= _SURE:
            self._most_in_a_row = min(2 * self._most_in_a_row, _MOST_IN_A_ROW)
        else:
            self._most_in_a_row = max(self._most_in_a_row // 2, _LEAST_IN_A_ROW)
        saved_ms = error * self._compared_ms
        self._compared_ms = self._drafted_ms = 0.0
        self._credit_ms += saved_ms
        self.total.real_ms += saved_ms
        for stream in self._streams.values():
            stream.credit_ms += saved_ms
            stream.use.real_ms += saved_ms

    def _count(
        self, decision: Decision, depths: Mapping[int, int], num_accepted: Mapping[int, int]
    ) -> None:
        assert self._alone_ms is not None
        for slot, stream in self._streams.items():
            expected_ms = decision.by_slot.get(slot, 0.0) * self._alone_ms - decision.more_ms
            for use, share in ((stream.use, 1.0), (self.total, 1 / len(self._streams))):
                use.expected_ms += share * expected_ms
                use.num_drafted += depths.get(slot, 0)
                use.num_accepted += num_accepted.get(slot, 0)
