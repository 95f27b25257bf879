"""Which number of drafted rows of one alternative pays best, within what may be lost.

Knows no drafter and no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from appliance.engine.drafting.acceptance import AcceptanceRates, RankedToken
from appliance.engine.drafting.drafter import DraftCost
from appliance.engine.drafting.loss_budget import LossBudget, catch_up_share_ms
from appliance.engine.drafting.offers import DraftAlternative, StepContext

_ALL_ROWS = 8  # every number of rows up to this one is weighed,
_ROW_STRIDE = 4  # then only multiples of this
_MAX_OVERDRAFT_STEPS = 1.0  # steps' time that one step may lose beyond the budget
_TRUST = 0.8  # of what is expected, in weighing what may be lost


@dataclass(kw_only=True)
class BestRows:
    """The best number of rows of an alternative."""

    num_rows: int
    gain_ms: float
    rate: float  # of the gain to the step's time
    extra_ms: float  # what drafting is expected to add to the step's time
    depths: dict[int, int] = field(default_factory=dict)  # slot -> tokens to draft
    num_expected: dict[int, float] = field(default_factory=dict)  # slot -> tokens accepted


def best_rows(
    step: StepContext,
    alternative: DraftAlternative,
    undrafted_ms: float,
    rates: AcceptanceRates,
    budget: LossBudget,
) -> BestRows | None:
    """The number of drafted rows with the best rate, of those whose loss the budget
    could bear; None where there is none.

    What counts is time per token: a step that brings more may be as much longer. So the
    gain of n rows is weighed against the time of the longer step.
    """
    token_ms, left_ms = step.decode_ms / len(step.slots), max(budget.left_ms, 0.0)
    left_by_slot = budget.left_by_slot(step.slots)
    best: BestRows | None = None
    depths: dict[int, int] = {}
    num_expected, max_depth = 0.0, 0
    ranked = rates.ranked(alternative.offers)
    if step.wants_equal_depths:
        ranked = _by_depth(ranked, step.slots)
    ranked = ranked[: step.max_rows]
    max_gain_ms = sum(token.chance for token in ranked) * token_ms
    for num_rows, (chance, slot, takes_time) in enumerate(ranked, 1):
        num_expected += chance
        depth = depths[slot] = depths.get(slot, 0) + 1
        if takes_time:
            max_depth = max(max_depth, depth)
        left_by_slot[slot] += _TRUST * chance * step.decode_ms
        if step.wants_equal_depths:
            if num_rows % len(step.slots):
                continue
        elif num_rows > _ALL_ROWS and num_rows % _ROW_STRIDE and num_rows < len(ranked):
            continue  # weighing takes time too
        # a longer step is no quicker
        extra_ms = max(step.step_ms(num_rows) - undrafted_ms, 0.0)
        extra_ms += _drafting_ms(alternative.cost, max_depth)
        if num_rows == 1 and extra_ms - max_gain_ms > left_ms:
            return None  # whatever is accepted
        max_loss_ms = min(
            num_rows * token_ms,  # even if all are accepted
            left_ms + _MAX_OVERDRAFT_STEPS * step.decode_ms,  # for nothing may be accepted
            left_ms + _TRUST * num_expected * token_ms,
            max(min(left_by_slot.values()), 0.0),
        )
        if extra_ms >= max_loss_ms:
            continue
        gain_ms = num_expected * token_ms - extra_ms
        rate = gain_ms / (undrafted_ms + extra_ms)
        if best is None or rate > best.rate:
            best = BestRows(num_rows=num_rows, gain_ms=gain_ms, rate=rate, extra_ms=extra_ms)
    if best is not None:
        _share_out(best, ranked)
    return best


def _by_depth(ranked: list[RankedToken], slots: Seq[int]) -> list[RankedToken]:
    """The first token of every slot, then the second of every slot, as long as each has
    one.
    """
    of_slots = ([token for token in ranked if token.slot == slot] for slot in slots)
    return [token for each in zip(*of_slots, strict=False) for token in each]


def _drafting_ms(cost: DraftCost | None, max_depth: int) -> float:
    """What drafting so many tokens for the deepest slot takes; nothing by a lookup."""
    if cost is None or not max_depth:
        return 0.0
    further_ms = cost.token_ms * (max_depth - 1)
    return cost.begin_ms + further_ms + catch_up_share_ms(cost.catch_up_ms)


def _share_out(best: BestRows, ranked: list[RankedToken]) -> None:
    """The rows' slots: the likeliest tokens are drafted."""
    for chance, slot, _ in ranked[: best.num_rows]:
        best.depths[slot] = best.depths.get(slot, 0) + 1
        best.num_expected[slot] = best.num_expected.get(slot, 0.0) + chance
