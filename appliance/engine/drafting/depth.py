"""How many drafted tokens pay in the next step, over all slots together.

Knows no drafter and no tokens.

What a drafted token is worth: the chance that it is accepted, times what a token costs
without drafts. What it costs: the step's time with so many rows more, by the learned
`StepCost`, which has plateaus and cliffs, so every number is weighed; and the time of
the drafter, where it takes any. Acceptance rates are learned by position for each slot,
beside what all slots have in common.

Drafting never costs more than its `LossBudget`. Trying again what did not pay is
bounded by that as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq

from appliance.engine.drafting.acceptance import AcceptanceRates
from appliance.engine.drafting.drafter import DraftUse
from appliance.engine.drafting.loss_budget import LossBudget
from appliance.engine.drafting.offers import DraftAlternative, DraftDecision, StepContext
from appliance.engine.drafting.weighing import BestRows, best_rows

_MIN_GAIN = 0.02  # below it, of the time of a token, estimates are no better than guesses
_MAX_REST = 4  # steps at most between two choices, where nothing was worth drafting
# Trials of what is not expected to pay may take so much of decoding time, so they are
# the rarer the more they cost.
_TRIAL_SHARE = 0.002
_MIN_TRIAL_PAUSE = 4  # steps between two of them, where the last one did not pay
_MIN_LOOK_PAUSE = 8  # steps between two looks for drafts while the budget is spent
# Steps with drafts in a row, before one without shows again what that takes: at least
# and at most.
_MIN_IN_A_ROW, _MAX_IN_A_ROW = 4, 64
# By so much the time of steps without drafts may be misjudged. Where drafts save more
# than that, it need not be known better.
_MAX_ERROR = 0.4
_FIRST_PLAIN = 1  # steps without drafts, before any with a number of streams that is new
# A step without drafts that differs from what was expected by no more than this share
# confirms it, and the next comparison comes later.
_CONFIRMING_ERROR = 0.1
_MAX_CORRECTION = 0.5  # by one step: it may have been unlucky itself
# A step counts for at most so many times its expected time: the machine was busy with
# something else.
_HICCUP = 2.0


class DepthController:
    """Per step: `may_draft`, then perhaps `choose`,
    then `observe` or `observe_without`.
    """

    def __init__(self) -> None:
        self._rates = AcceptanceRates()
        self._budget = LossBudget()
        self._decision: DraftDecision | None = None
        self._num_steps = 0
        self._rest, self._rest_until = 1, 0  # steps; the step that ends it
        self._next_look = 0  # the step, while the budget is spent
        self._last_look_ms = 0.0
        self._next_trial = [0, 0]  # the step, by the index of the alternative
        self._num_in_a_row = 0
        self._max_in_a_row = _MIN_IN_A_ROW
        self._num_streams = 0
        self._was_plain = False  # the step before
        self._is_comparing = False  # the next step without drafts shows what is usual
        self._num_plain: dict[int, int] = {}  # steps without drafts, by the number of streams
        # All tokens since the last comparison: what they would have taken without
        # drafts, by what was expected then, and what they took.
        self._compared_ms = 0.0
        self._drafted_ms = 0.0

    @property
    def total(self) -> DraftUse:
        """What drafting brought all sequences so far."""
        return self._budget.total

    def use(self, slot: int) -> DraftUse:
        """What it brought the slot's sequence so far."""
        return self._budget.use(slot)

    def release(self, slot: int) -> None:
        """Another sequence will have the slot."""
        self._budget.release(slot)
        self._rates.forget(slot)

    def wants_comparison(self, num_streams: int) -> bool:
        """Whether a step without drafts should now show what
        the others are compared with.
        """
        self._num_streams = num_streams
        is_new = self._num_plain.get(num_streams, 0) < _FIRST_PLAIN
        return is_new or self._is_comparing or self._num_in_a_row >= self._max_without_comparison

    def may_draft(self) -> bool:
        """Whether looking for drafts is worth its own time now."""
        if self._num_steps < self._rest_until:
            return False
        if self._budget.left_ms >= 0:
            return True
        if self._num_steps < self._next_look:
            return False
        assert self._budget.decode_ms is not None
        pause = self._last_look_ms / (_TRIAL_SHARE * self._budget.decode_ms)
        self._next_look = self._num_steps + max(int(pause), _MIN_LOOK_PAUSE)
        return True

    def choose(
        self, step: StepContext, alternatives: Seq[DraftAlternative]
    ) -> DraftDecision | None:
        """The alternative and the depths that are expected to bring most tokens for
        their time; None where nothing is to be drafted.
        """
        self._budget.open(step.slots, step.decode_ms)
        undrafted_ms = step.step_ms(0)
        best: BestRows | None = None
        best_at = 0
        for at, alternative in enumerate(alternatives):
            found = best_rows(step, alternative, undrafted_ms, self._rates, self._budget)
            if (
                found is not None
                and self._may_try(at, found, step)
                and (best is None or found.rate > best.rate)
            ):
                best, best_at = found, at
        if best is None:
            self._rest = min(2 * self._rest, _MAX_REST)
            self._rest_until = self._num_steps + self._rest
            return None
        self._rest = 1
        if self._is_trial(best, step):
            pause = best.extra_ms / (_TRIAL_SHARE * undrafted_ms)
            self._next_trial[best_at] = self._num_steps + max(int(pause), _MIN_TRIAL_PAUSE)
        self._decision = DraftDecision(
            alternative=best_at,
            depths=best.depths,
            undrafted_ms=undrafted_ms,
            extra_ms=best.extra_ms,
            num_expected=best.num_expected,
        )
        return self._decision

    def observe(
        self,
        grades: Mapping[int, int],
        depths: Mapping[int, int],
        num_accepted: Mapping[int, int],
        step_ms: float,
        drafting_ms: float,
        catch_up_ms: float = 0.0,
    ) -> None:
        """After a step that `choose` decided on: what was drafted in fact, by slot, and
        how many of it were right.

        `drafting_ms` is what drafting took beside the step, `catch_up_ms` of it for
        catching up.
        """
        decision, self._decision = self._decision, None
        assert decision is not None
        if not depths:
            self.observe_without(step_ms, drafting_ms, None)
            return
        self._num_steps += 1
        self._num_in_a_row += 1
        budget = self._budget
        if budget.decode_ms is not None:
            self._compared_ms += budget.decode_ms * (
                1 + sum(num_accepted.values()) / max(budget.num_streams, 1)
            )
            self._drafted_ms += step_ms + drafting_ms
        for slot, num_right in num_accepted.items():
            self._rates.learn(slot, grades[slot], depths[slot], num_right)
        step_ms = min(step_ms, _HICCUP * (decision.undrafted_ms + decision.extra_ms))
        lost_ms = step_ms - decision.undrafted_ms + drafting_ms
        lost_ms += budget.spread_catch_up(catch_up_ms)
        if budget.record(num_accepted, lost_ms, step_ms) > 0:
            self._next_trial[decision.alternative] = 0
        budget.count(decision, depths, num_accepted)

    def observe_without(
        self, step_ms: float, drafting_ms: float, expected_ms: float | None
    ) -> None:
        """After a step without drafts;
        `drafting_ms` is what looking for some took nevertheless.

        `expected_ms` is what was expected of it, None beside a prompt. The first step
        after one with drafts or after a prompt takes longer: llama.cpp has to build its
        graph anew. After drafts the budget pays for that; only the second one shows
        what is usual.
        """
        self._decision = None
        self._num_steps += 1
        self._last_look_ms = drafting_ms or self._last_look_ms
        lost_ms = drafting_ms + self._budget.spread_catch_up(0.0)
        if expected_ms is not None:
            error_ms = min(
                max(step_ms - expected_ms, -_MAX_CORRECTION * expected_ms),
                _MAX_CORRECTION * expected_ms,
            )
            if self._num_in_a_row:
                lost_ms += error_ms
            elif self._was_plain:
                self._num_plain[self._num_streams] = self._num_plain.get(self._num_streams, 0) + 1
                self._correct(error_ms / expected_ms)
            self._is_comparing = self._num_in_a_row >= self._max_without_comparison
        self._num_in_a_row = 0
        self._was_plain = expected_ms is not None
        if self._budget.decode_ms is not None:
            self._budget.record({}, lost_ms, step_ms)

    @property
    def _max_without_comparison(self) -> int:
        """Steps with drafts in a row."""
        is_surely_better = self._drafted_ms < (1 - _MAX_ERROR) * self._compared_ms
        return _MAX_IN_A_ROW if is_surely_better else self._max_in_a_row

    def _is_trial(self, best: BestRows, step: StepContext) -> bool:
        """Whether it is not expected to pay, or has not paid so far."""
        min_gain_ms = _MIN_GAIN * step.decode_ms / len(step.slots)
        return best.gain_ms < min_gain_ms or self._budget.left_ms < 0

    def _may_try(self, at: int, best: BestRows, step: StepContext) -> bool:
        return not self._is_trial(best, step) or self._num_steps >= self._next_trial[at]

    def _correct(self, error: float) -> None:
        """Steps without drafts take so much more, of their time, than was expected: and
        so they did before.
        """
        if not self._compared_ms:
            return
        if abs(error) <= _CONFIRMING_ERROR:
            self._max_in_a_row = min(2 * self._max_in_a_row, _MAX_IN_A_ROW)
        else:
            self._max_in_a_row = max(self._max_in_a_row // 2, _MIN_IN_A_ROW)
        self._budget.correct(error * self._compared_ms)
        self._compared_ms = self._drafted_ms = 0.0
