"""What measuring itself takes:
two children at most, each with the model and two contexts.

Knows no process.

Both map one file, so its pages count once; a copy of weights, repacked or read instead
of mapped, counts in full.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.errors import NothingFits
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import readable
from appliance.fit.plan.footprint import Footprint, ServeSize, footprint
from appliance.fit.plan.planner import Plan
from appliance.fit.plan.shape import read_shape
from appliance.fit.plan.weights import repacked_types
from appliance.fit.tuning.choices import MAX_UBATCH_ROWS
from appliance.fit.tuning.speeds import PROMPT_TOKENS
from appliance.fit.tuning.workload import depth
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import GgufHeader

_CONTEXTS = 2  # in each child: the two that are compared


def without_memory(header: GgufHeader, plan: Plan, device: Device) -> Iterator[tuple[str, str]]:
    """Fields of `Tuning` for which a second copy
    of the weights would not fit, and why in words.

    Raises `NothingFits` where not even one child would.
    """
    repacking = repacked_types(device.cpu_flags)
    plain, repacked = (
        _largest_child(header, plan, frozenset()),
        _largest_child(header, plan, repacking),
    )
    usable = plan.budget.usable_bytes
    first_bytes = _with_contexts(plain)
    if first_bytes > usable:
        raise NothingFits(
            f"Measuring {header.path.name} takes {readable(first_bytes)}, but only "
            f"{readable(usable)} can be used ({plan.budget.explanation}). Free memory, or keep the "
            "defaults."
        )
    with_repacked = first_bytes + _with_contexts(repacked) - repacked.weights_bytes
    with_copy = first_bytes + _with_contexts(plain)
    for field, need_bytes in (("use_extra_bufts", with_repacked), ("use_mmap", with_copy)):
        if need_bytes > usable:
            words = (
                f"comparing takes {readable(need_bytes)}, but only {readable(usable)} can be used"
            )
            yield field, words


def _largest_child(header: GgufHeader, plan: Plan, repacking: frozenset[str]) -> Footprint:
    """With whichever attention takes more; without flash attention, as many rows as are
    tried there.
    """
    rows = min(plan.sizes.max_rows, PROMPT_TOKENS)
    ways = (
        [(True, rows), (False, min(rows, 2 * MAX_UBATCH_ROWS))]
        if plan.sizes.kv_type == "f16"
        else [(True, rows)]
    )
    children = [
        _child(header, plan, repacking, flash_attention, rows) for flash_attention, rows in ways
    ]
    return max(children, key=lambda child: child.claimed_bytes)


def _child(
    header: GgufHeader,
    plan: Plan,
    repacking: frozenset[str],
    flash_attention: bool,
    ubatch_rows: int,
) -> Footprint:
    size = ServeSize(
        sizes=ContextSizes(
            kv_cells=depth(plan.ctx, plan.sizes.slots) + 2 * PROMPT_TOKENS,
            slots=plan.sizes.slots,
            max_rows=min(plan.sizes.max_rows, PROMPT_TOKENS),
            kv_type=plan.sizes.kv_type,
            threads=plan.sizes.threads,
            flash_attention=flash_attention,
            ubatch_rows=ubatch_rows,
            batch_threads=plan.sizes.threads,
        ),
        repacked_types=repacking,
        own_kernels=flash_attention,  # where there are any
        whole_steps=True,
    )
    return footprint(header, read_shape(header), size)


def _with_contexts(child: Footprint) -> int:
    per_context = child.kv_bytes + child.compute_bytes + child.output_bytes
    return child.claimed_bytes + (_CONTEXTS - 1) * per_context
