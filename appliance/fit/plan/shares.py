"""How much of one memory budget each of several models should get.

Knows no model by name and loads none.

The rule: the budget is divided among as many models as can all be served well at once;
that decides the quantization. A model is served well with a quantization of at least
about four bits, with the context and the slots that are tried first; what the user has
set counts as well enough. It is grown only as far as an equal part for each model
allows, for what one takes beyond that is missing where another one is to be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from appliance.errors import NothingFits
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import PARSED_BYTES_PER_BODY_BYTE, largest_body_bytes
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import Plan
from appliance.fit.plan.quality import quality_rank
from appliance.fit.plan.search import LEAST_CONTEXTS, WANTED_SLOTS

_LEAST_GOOD_QUANTIZATION = "Q4_0"
_MOST_OF_BUDGET_FOR_PARSING = 1 / 32
_ANY_CTX = 1 << 30
_ROOM_FOR_EXACTNESS = 1.1  # by which llama.cpp's own account of its buffers may be above ours


def budget_of(budget: Budget, num_bytes: int, shared_bytes: int) -> Budget:
    """The budget of a model that may take `num_bytes` for itself."""
    explanation = f"{budget.explanation}; this model may take a share of it"
    return replace(
        budget,
        total_bytes=num_bytes + shared_bytes + budget.headroom_bytes,
        explanation=explanation,
    )


def share_of(
    plan_within: Callable[[Budget], Plan],
    budget: Budget,
    shared_bytes: int,
    num_models: int,
    overrides: Overrides,
) -> Budget:
    """What one of `num_models` that are served should be planned within; all of the
    budget where no share will do.

    Raises `NothingFits` where it fits in no way.
    """
    alone = plan_within(budget)
    models_bytes = budget.usable_bytes - shared_bytes
    for num_shares in range(num_models, 1, -1):
        try:
            plan = plan_within(budget_of(budget, models_bytes // num_shares, shared_bytes))
        except NothingFits:
            continue
        if _is_good(plan, alone, overrides):
            least_bytes = int(_smallest_bytes(plan) * _ROOM_FOR_EXACTNESS)
            share_bytes = min(
                max(models_bytes // num_models, least_bytes), models_bytes // num_shares
            )
            return budget_of(budget, share_bytes, shared_bytes)
    return budget


def _smallest_bytes(plan: Plan) -> int:
    """What the choice takes for itself before it is grown."""
    (need,) = (candidate.need for candidate in plan.candidates if candidate.chosen)
    assert need is not None
    return need.own_bytes


def longest_ctx(contexts: Sequence[int | None]) -> int | None:
    """Of several models; None where one may be as long as its model allows."""
    known = [ctx for ctx in contexts if ctx is not None]
    return max(known) if len(known) == len(contexts) else None


def body_bytes_for_all(ctx: int | None, budget: Budget) -> int:
    """The bound on a request's body where several models share a server: it is parsed
    before the model is known.

    As if the context were `ctx` (None: as long as any), but no more than parsing can be
    spared for.
    """
    affordable = (
        int(budget.usable_bytes * _MOST_OF_BUDGET_FOR_PARSING) // PARSED_BYTES_PER_BODY_BYTE
    )
    return max(
        min(largest_body_bytes(_ANY_CTX if ctx is None else ctx), affordable), largest_body_bytes(0)
    )


def _is_good(plan: Plan, alone: Plan, overrides: Overrides) -> bool:
    """Compared with what it would be if it were `alone`."""
    good_file = (
        overrides.quant is not None
        or quality_rank(plan.quantization) <= quality_rank(_LEAST_GOOD_QUANTIZATION)
        or plan.model_path == alone.model_path
    )
    good_ctx = overrides.ctx is not None or plan.ctx >= min(
        plan.train_ctx, overrides.kv_cells or LEAST_CONTEXTS[0]
    )
    good_slots = overrides.slots is not None or plan.sizes.slots >= min(
        WANTED_SLOTS, overrides.max_batch_rows
    )
    return good_file and good_ctx and good_slots
