"""Why a plan is what it is, in words for people.

Knows no formula and chooses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.fit.plan.budget import Budget, readable
from appliance.fit.plan.quality import Ranking
from appliance.fit.plan.search import SMALL_KV, WANTED_SLOTS, PlanOption, impossible_kv_type


def verdict(option: PlanOption, chosen: PlanOption | None, budget: Budget) -> str:
    """Why `option` is or is not the one."""
    if option is chosen:
        return "chosen"
    if option.need is None:
        return impossible_kv_type(option)
    if option.gpu_refusal is not None:
        return f"does not fit: {option.gpu_refusal}"
    if chosen is None or not option.fits(budget):
        return (
            f"does not fit: {readable(option.need.claimed_bytes - budget.usable_bytes)} too large"
        )
    if option.header is chosen.header:
        if chosen.size.sizes.kv_type == SMALL_KV:
            return f"fits, but with our own kernels {SMALL_KV} KV is as good and as fast"
        return f"fits, but {chosen.size.sizes.kv_type} KV also fits and is more exact"
    return f"fits, but {chosen.header.quantization} is better"


def nothing_fits(options: Sequence[PlanOption], budget: Budget) -> str:
    possible = [
        (option.need.claimed_bytes, option) for option in options if option.need is not None
    ]
    need_bytes, least = min(possible, key=lambda pair: pair[0])
    if least.gpu_refusal is not None:
        choice = f"{least.header.quantization} with context {least.ctx}"
        return f"Nothing fits, not even {choice}: {least.gpu_refusal}."
    if least.size.embeds:
        return (
            f"Nothing fits: the smallest choice ({in_short(least)}) needs {readable(need_bytes)}, "
            f"but only {readable(budget.usable_bytes)} can be used ({budget.explanation}). Free "
            "memory, raise the limit, or choose a smaller --ctx or quantization."
        )
    slots = "1 slot" if least.size.sizes.slots == 1 else f"{least.size.sizes.slots} slots"
    return (
        f"Nothing fits: the smallest choice ({least.header.quantization}, {slots}, context "
        f"{least.ctx}, {least.size.sizes.kv_cells} cells of {least.size.sizes.kv_type}) needs "
        f"{readable(need_bytes)}, but only {readable(budget.usable_bytes)} can be used "
        f"({budget.explanation}). Free memory, raise the limit, or choose a smaller --ctx, "
        "--slots, --max-batch-rows or quantization."
    )


def reason(grown: PlanOption, options: Sequence[PlanOption], ranking: Ranking) -> str:
    """One sentence on the choice: which file and why this one, how long a context, how
    large a pool.
    """
    if grown.size.embeds:
        why = _why_this_file(grown, options, ranking)
        return f"{why}, to embed inputs of up to {_longest_input(grown)}."
    context = f"context {grown.ctx}" + (
        " (all that the model was trained for)" if _has_whole_context(grown) else ""
    )
    slots = grown.size.sizes.slots
    of_slots = grown.ctx * slots
    share = (
        "enough for every slot"
        if grown.size.sizes.kv_cells >= of_slots
        else f"{of_slots} would be enough for every slot"
    )
    if grown.overrides.slots is None and slots < WANTED_SLOTS:
        share = "one request at a time, because memory is short"
    pool = f"a pool of {grown.size.sizes.kv_cells} cells of {grown.size.sizes.kv_type} ({share})"
    return f"{_why_this_file(grown, options, ranking)} with {context} and {pool}.{_on_gpus(grown)}"


def _longest_input(option: PlanOption) -> str:
    if _has_whole_context(option):
        return f"{option.ctx} tokens (all that the model was trained for)"
    return (
        f"{option.ctx} tokens (--ctx allows up to {option.shape.train_ctx}, and every token takes "
        "a row of logits in memory)"
    )


def _on_gpus(grown: PlanOption) -> str:
    """A sentence on what went to GPUs, or why nothing did;
    empty where there are none.
    """
    text = (
        grown.placement.reason
        if grown.placement is not None and grown.gpus
        else grown.no_gpu_reason
    )
    return f" {text[0].upper()}{text[1:]}." if text else ""


def in_short(option: PlanOption | None) -> str:
    if option is None:
        return "nothing would fit"
    if option.size.embeds:
        return f"{option.header.quantization}, embedding inputs of up to {option.ctx} tokens"
    slots = "1 slot" if option.size.sizes.slots == 1 else f"{option.size.sizes.slots} slots"
    size = option.size
    return (
        f"{option.header.quantization}, context {option.ctx}, {size.sizes.kv_cells} cells of "
        f"{size.sizes.kv_type}, {slots}"
    )


def _has_whole_context(grown: PlanOption) -> bool:
    return grown.ctx == grown.shape.train_ctx


def _why_this_file(grown: PlanOption, options: Sequence[PlanOption], ranking: Ranking) -> str:
    quantization = grown.header.quantization
    if grown.overrides.quant is not None:
        return f"{quantization} was requested and fits"
    if len({option.header.path for option in options}) == 1:
        return f"{quantization} is the only file and fits"
    source = ranking.source_of(grown.header)
    return f"{quantization} is the best quantization ({source}) that fits"
