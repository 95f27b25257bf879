"""Has llama.cpp itself say what a plan's buffers take, before it is relied on.

Knows no rule of the choice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from appliance.errors import NothingFits
from appliance.fit.plan.budget import Budget, readable
from appliance.fit.plan.planner import Plan
from appliance.llama.checks import DryLoads, ReservedBytes

_log = logging.getLogger(__name__)
# to a thousandth of the budget; each asks llama.cpp once, which takes under a second
_NUM_HALVINGS = 10


def checked_plan(
    plan_within: Callable[[Budget], Plan], budget: Budget, dry_loads: DryLoads
) -> Plan:
    """The plan of `plan_within` if it fits also by what llama.cpp says it would
    reserve, else a smaller one that does.

    A model that is not here yet, goes to GPUs or embeds is planned by arithmetic alone;
    so is one for which llama.cpp has no answer, which is told in the log. Raises what
    `plan_within` raises, and `NothingFits` if none fits by both.
    """
    first = _reserved(plan_within(budget), dry_loads)
    if first.need.claimed_bytes <= budget.usable_bytes:
        return first
    smaller = _smaller(plan_within, budget, dry_loads)
    if smaller is None:
        raise NothingFits(
            f"Nothing fits: by llama.cpp's own account {first.quantization} with "
            f"{first.sizes.kv_cells} cells takes {readable(first.need.claimed_bytes)}, and nothing "
            f"smaller fits into {readable(budget.usable_bytes)} ({budget.explanation}). Free "
            "memory, raise the limit, or use a smaller --ctx or fewer --slots."
        )
    return replace(smaller, budget=budget)


def _smaller(
    plan_within: Callable[[Budget], Plan], budget: Budget, dry_loads: DryLoads
) -> Plan | None:
    """The largest plan that fits, by halving what arithmetic may take."""
    best: Plan | None = None
    low, high = budget.headroom_bytes, budget.total_bytes
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) // 2
        try:
            plan = _reserved(plan_within(replace(budget, total_bytes=middle)), dry_loads)
        except NothingFits:
            low = middle
            continue
        if plan.need.claimed_bytes <= budget.usable_bytes:
            low, best = middle, plan
        else:
            high = middle
    return best


def _reserved(plan: Plan, dry_loads: DryLoads) -> Plan:
    if not plan.model_path.is_file() or plan.placement.shares or plan.embeds:
        return plan
    answer = dry_loads.reserved(plan.model_path, plan.sizes)
    if not isinstance(answer, ReservedBytes):
        _log.warning(
            "%s: planned by arithmetic alone, for a dry load %s", plan.model_path.name, answer
        )
        return plan
    return replace(
        plan, need=plan.need.reserved_by_llama_cpp(answer.kv_bytes, answer.compute_bytes)
    )
