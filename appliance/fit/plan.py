"""Chooses what to serve and how large: the best candidate under the memory budget, and why. Knows no llama.cpp.

The rule, in this order:

1. the best quantization (see `quality`) that fits with a context of 4096 tokens, or the model's own if that is shorter,
   a pool of as many KV cells, and the wanted slots: with f16 KV if that fits, else with q8_0;
2. then the longest context up to the model's own;
3. then the largest pool of KV cells up to context x slots.

"Fits" means within the budget less a headroom. What the user has set is kept, never shortened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.errors import BadSettings, NothingFits
from appliance.fit.budget import Budget, readable
from appliance.fit.device import Device
from appliance.fit.footprint import (
    CELL_PADDING,
    Footprint,
    ServeSize,
    allows_kv_type,
    footprint,
    largest_body_bytes,
    padded_cells,
    repacked_types,
)
from appliance.fit.quality import Ranking, rank
from appliance.fit.shape import ModelShape, read_shape
from appliance.fit.tuning import Tuning, ubatch_rows, uses_flash_attention
from appliance.store.gguf_header import GgufHeader

WANTED_CTX = 4096
_MAX_PREFIX_BYTES = 1 << 30
KV_TYPES = ("f16", "q8_0")  # best first


@dataclass(frozen=True)
class Wishes:
    """What the user has set; None leaves the choice to the plan. Sizes are in tokens, `ram` and bodies in bytes."""

    slots: int
    max_batch_rows: int
    ctx: int | None = None
    kv_cells: int | None = None
    quant: str | None = None
    kv_type: str | None = None
    ram: int | None = None
    threads: int | None = None
    max_body_bytes: int | None = None


@dataclass(frozen=True)
class Candidate:
    """One file with one KV type: what it takes at its smallest (`ctx`, `kv_cells`), and what became of it.

    `need` is None where the combination is impossible. The chosen candidate is shown as small as the others; how far
    it was grown is the plan's.
    """

    model_path: Path
    quantization: str
    kv_type: str
    ctx: int
    kv_cells: int
    need: Footprint | None
    chosen: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """All a worker must be told, and how it came about. Sizes in tokens and bytes."""

    model_path: Path
    quantization: str
    ctx: int
    train_ctx: int
    slots: int
    kv_cells: int
    kv_type: str
    threads: int
    batch_threads: int
    max_batch_rows: int
    ubatch_rows: int
    flash_attention: bool
    use_extra_bufts: bool
    use_mmap: bool
    max_body_bytes: int
    need: Footprint
    budget: Budget
    reason: str
    candidates: tuple[Candidate, ...]

    @property
    def spare_bytes_for_prefixes(self) -> int:
        """Memory for prefixes that have to leave the KV cache: half of what the plan leaves, at most 1 GiB."""
        return min((self.budget.usable_bytes - self.need.total_bytes) // 2, _MAX_PREFIX_BYTES)


@dataclass(frozen=True)
class _Computing:
    """What every option has alike: how it would be computed."""

    threads: int
    tuning: Tuning
    repacked_types: frozenset[str]


@dataclass(frozen=True)
class _Option:
    """A file and a KV type before the choice, at the smallest size that is allowed."""

    header: GgufHeader
    shape: ModelShape
    size: ServeSize
    wishes: Wishes
    ctx: int
    need: Footprint | None

    def fits(self, budget: Budget) -> bool:
        return self.need is not None and self.need.total_bytes <= budget.usable_bytes


def make_plan(headers: Sequence[GgufHeader], wishes: Wishes, device: Device, budget: Budget, tuning: Tuning) -> Plan:
    """The plan for serving one of the files behind `headers` on this device.

    Raises `BadSettings` where a wish contradicts the model or the files, `NothingFits` with the smallest need and the
    budget where memory is short.
    """
    ranking = rank(headers)
    options = _options(ranking, wishes, device, tuning)
    chosen = next((option for option in options if option.fits(budget)), None)
    if chosen is None:
        raise NothingFits(_nothing_fits(options, budget))
    grown = _grow(chosen, wishes, budget)
    assert grown.need is not None
    return Plan(
        model_path=grown.header.path,
        quantization=grown.header.quantization,
        ctx=grown.ctx,
        train_ctx=grown.shape.train_ctx,
        slots=wishes.slots,
        kv_cells=grown.size.kv_cells,
        kv_type=grown.size.kv_type,
        threads=grown.size.threads,
        batch_threads=wishes.threads or tuning.batch_threads or grown.size.threads,
        max_batch_rows=wishes.max_batch_rows,
        ubatch_rows=grown.size.ubatch_rows,
        flash_attention=grown.size.flash_attention,
        use_extra_bufts=tuning.use_extra_bufts,
        use_mmap=tuning.use_mmap,
        max_body_bytes=grown.size.max_body_bytes,
        need=grown.need,
        budget=budget,
        reason=_reason(chosen, grown, options, ranking),
        candidates=tuple(_candidate(option, chosen, budget) for option in options),
    )


def weigh(headers: Sequence[GgufHeader], wishes: Wishes, device: Device, budget: Budget) -> tuple[Candidate, ...]:
    """What each choice takes at its smallest, with plain weights, where none fits. Raises `BadSettings`."""
    options = _options(rank(headers), wishes, device, Tuning())
    return tuple(_candidate(option, None, budget) for option in options)


def _options(ranking: Ranking, wishes: Wishes, device: Device, tuning: Tuning) -> list[_Option]:
    """Every file with every KV type that may be chosen, best first."""
    assert ranking.headers
    threads = wishes.threads or tuning.threads or device.threads
    computing = _Computing(threads, tuning, repacked_types(device.cpu_flags) if tuning.use_extra_bufts else frozenset())
    options = [
        _option(header, kv_type, wishes, computing)
        for header in _wanted(ranking.headers, wishes.quant)
        for kv_type in ((wishes.kv_type,) if wishes.kv_type else KV_TYPES)
    ]
    if all(option.need is None for option in options):
        raise BadSettings(_kv_type_refusal(options[0]))
    return options


def _wanted(headers: Sequence[GgufHeader], quant: str | None) -> list[GgufHeader]:
    """The files to choose from, in their order."""
    if quant is None:
        return list(headers)
    wanted = [header for header in headers if header.quantization == quant]
    if not wanted:
        there = ", ".join(header.quantization for header in headers) or "none"
        raise BadSettings(f"--quant {quant}: there is no such file of this model, only {there}.")
    return wanted


def _option(header: GgufHeader, kv_type: str, wishes: Wishes, computing: _Computing) -> _Option:
    shape = read_shape(header)
    if wishes.ctx is not None and wishes.ctx > shape.train_ctx:
        raise BadSettings(
            f"--ctx {wishes.ctx} is more than the {shape.train_ctx} tokens that {header.path.name} was trained for: "
            f"beyond them it writes nonsense. Give at most --ctx {shape.train_ctx}."
        )
    flash_attention = uses_flash_attention(kv_type, computing.tuning.flash_attention)
    ctx = wishes.ctx or min(shape.train_ctx, wishes.kv_cells or WANTED_CTX)
    size = ServeSize(
        kv_cells=padded_cells(wishes.kv_cells or ctx),
        slots=wishes.slots,
        max_batch_rows=wishes.max_batch_rows,
        kv_type=kv_type,
        threads=computing.threads,
        flash_attention=flash_attention,
        ubatch_rows=ubatch_rows(
            wishes.max_batch_rows, flash_attention=flash_attention, tuned=computing.tuning.ubatch_rows
        ),
        repacked_types=computing.repacked_types,
        max_body_bytes=wishes.max_body_bytes or largest_body_bytes(ctx),
    )
    need = footprint(header, shape, size) if allows_kv_type(shape, kv_type) else None
    return _Option(header, shape, size, wishes, ctx, need)


def _grow(option: _Option, wishes: Wishes, budget: Budget) -> _Option:
    """The same file and KV type with the longest context and then the largest pool that still fit."""
    if wishes.kv_cells is not None:
        return option
    if wishes.ctx is None:
        longest = option.shape.train_ctx
        option = _largest(lambda cells: _with_pool(option, min(longest, cells), cells), option, longest, budget)
    most_cells = max(option.ctx * wishes.slots, option.size.kv_cells)
    return _largest(lambda cells: _with_pool(option, option.ctx, cells), option, most_cells, budget)


def _largest(sized: Callable[[int], _Option], option: _Option, most_cells: int, budget: Budget) -> _Option:
    """What `sized` makes of the largest padded number of cells up to `most_cells` that fits; `option` is known to."""
    low, high = option.size.kv_cells // CELL_PADDING, padded_cells(most_cells) // CELL_PADDING
    best = option
    while low < high:
        middle = (low + high + 1) // 2
        larger = sized(middle * CELL_PADDING)
        if larger.fits(budget):
            low, best = middle, larger
        else:
            high = middle - 1
    return best


def _with_pool(option: _Option, ctx: int, kv_cells: int) -> _Option:
    body_bytes = option.wishes.max_body_bytes or largest_body_bytes(ctx)
    size = replace(option.size, kv_cells=kv_cells, max_body_bytes=body_bytes)
    return replace(option, ctx=ctx, size=size, need=footprint(option.header, option.shape, size))


def _candidate(option: _Option, chosen: _Option | None, budget: Budget) -> Candidate:
    return Candidate(
        model_path=option.header.path,
        quantization=option.header.quantization,
        kv_type=option.size.kv_type,
        ctx=option.ctx,
        kv_cells=option.size.kv_cells,
        need=option.need,
        chosen=option is chosen,
        reason=_verdict(option, chosen, budget),
    )


def _verdict(option: _Option, chosen: _Option | None, budget: Budget) -> str:
    if option is chosen:
        return "chosen"
    if option.need is None:
        return _kv_type_refusal(option)
    if chosen is None or not option.fits(budget):
        return f"does not fit: {readable(option.need.total_bytes - budget.usable_bytes)} too large"
    if option.header is chosen.header:
        return f"fits, but {chosen.size.kv_type} KV fits too and is more exact"
    return f"fits, but {chosen.header.quantization} is better"


def _kv_type_refusal(option: _Option) -> str:
    return (
        f"{option.size.kv_type} KV is impossible: heads of {option.shape.key_length} values are no whole blocks of "
        "32. Use --kv-type f16."
    )


def _nothing_fits(options: list[_Option], budget: Budget) -> str:
    possible = [(option.need.total_bytes, option) for option in options if option.need is not None]
    need_bytes, least = min(possible, key=lambda pair: pair[0])
    return (
        f"Nothing fits: the smallest choice ({least.header.quantization}, context {least.ctx}, "
        f"{least.size.kv_cells} cells of {least.size.kv_type}) needs {readable(need_bytes)}, and there are "
        f"{readable(budget.usable_bytes)} ({budget.explanation}). Free memory, raise the limit, or give a smaller "
        "--ctx, --slots or --max-batch-rows, or a smaller quantization."
    )


def _reason(chosen: _Option, grown: _Option, options: list[_Option], ranking: Ranking) -> str:
    quantization, wishes = chosen.header.quantization, chosen.wishes
    if wishes.quant is not None:
        why = f"{quantization} was asked for and fits"
    elif len({option.header.path for option in options}) == 1:
        why = f"{quantization} is the only file and fits"
    else:
        why = f"{quantization} is the best quantization ({ranking.source_of(chosen.header)}) that fits"
    whole_ctx = grown.ctx == grown.shape.train_ctx
    context = f"context {grown.ctx}" + (" (all the model was trained for)" if whole_ctx else "")
    of_slots = grown.ctx * wishes.slots
    share = "every slot can use all of it" if grown.size.kv_cells >= of_slots else f"{of_slots} would serve all slots"
    return f"{why} with {context} and a pool of {grown.size.kv_cells} cells of {grown.size.kv_type} ({share})."
