"""Everything that could be served, best first, and how far the best that fits can grow.

Knows no words for people.

The order: by the smallest context first, where 4,096 tokens are worth more than any
quantization and each halving below is taken only where nothing else is left; then by
quantization (see `quality`); then f16 KV before q8_0, or with attention of our own the
other way round (decision 47); then all slots before a single
one. What the user has set is kept, never shortened.

Where there are GPUs, each choice is placed on them first (see `layer_assignment`): what
stays in RAM has to fit, and nothing grows at the price of a layer that was on a GPU.
Helpers on other machines get the fewest layers with which the rest fits here (see
`helpers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from appliance.errors import BadSettings
from appliance.fit.machine.device import Device
from appliance.fit.plan import embedding
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.footprint import Footprint, ServeSize, footprint, largest_body_bytes
from appliance.fit.plan.kv_cache import CELL_PADDING, allows_kv_type, padded_cells
from appliance.fit.plan.offload import Gpu, GpuOverrides, usable_gpus
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.placement import Placement, demand, ram_need
from appliance.fit.plan.placing.rpc_helpers import ALL_FITS_HERE, NOBODY_HELPS, Helping
from appliance.fit.plan.shape import ModelShape, read_shape
from appliance.fit.plan.weights import repacked_types
from appliance.fit.tuning.choices import Tuning, ubatch_rows, uses_flash_attention
from appliance.protocol.context_sizes import ContextSizes
from appliance.store.gguf_header import GgufHeader

# tokens; a shorter one is taken where no quantization fits with the longer
LEAST_CONTEXTS = (4096, 2048, 1024, 512)
WANTED_SLOTS = 4
# of a step, over all requests: a row more of logits each, so not as many as might pay
MAX_DRAFT_ROWS = 32
# Earlier states of each sequence that are kept where drafts need them, the best first, and
# the most that they may take: 1 / this of the budget.
ROLLBACK_STATES = (4, 2)
_MAX_STATES_SHARE = 8
# Of which the plan chooses; the others cost quality that nobody has asked to give, see
# docs/performance.md.
EXACT_KV, SMALL_KV = "f16", "q8_0"


@dataclass(frozen=True, kw_only=True)
class PlanOption:
    """A file with a KV type and slots, at the smallest size that is allowed."""

    header: GgufHeader
    shape: ModelShape
    size: ServeSize
    overrides: Overrides
    ctx: int  # tokens
    gpus: tuple[Gpu, ...] = ()  # that may be used
    helping: Helping = NOBODY_HELPS  # when layers go to helpers among them
    no_gpu_reason: str = ""  # why none is used although there are some
    need: Footprint | None = None  # of RAM; None where the combination is impossible
    placement: Placement | None = None  # what goes where; None as `need`

    @property
    def gpu_layers(self) -> int:
        return self.placement.offload.gpu_layers if self.placement is not None else 0

    @property
    def gpu_refusal(self) -> str | None:
        """Why the layers that were asked for cannot be on GPUs; None if they can, or
        none were asked for.
        """
        return self.placement.refusal if self.placement is not None else None

    def fits(self, budget: Budget) -> bool:
        if self.need is None or self.gpu_refusal is not None:
            return False
        return self.need.claimed_bytes <= budget.usable_bytes

    def placed(self) -> PlanOption:
        """The same with what goes where, and what of it takes RAM."""
        whole = replace(self.size, whole_tables=True)  # where any layer is on a GPU
        demanded = demand(self.header, self.shape, whole)
        all_in_ram = footprint(self.header, self.shape, whole)
        placement = self.helping.place(
            demanded, self.gpus, self.overrides.gpu, lambda made: ram_need(all_in_ram, made)
        )
        size = replace(self.size, whole_tables=bool(placement.shares))
        need = ram_need(footprint(self.header, self.shape, size), placement)
        return replace(self, size=size, need=need, placement=placement)

    def same_choice(self, other: PlanOption) -> bool:
        """Whether both would answer alike, however they are computed."""
        return (
            self.header.path,
            self.ctx,
            self.size.sizes.kv_cells,
            self.size.sizes.kv_type,
            self.size.sizes.slots,
        ) == (
            other.header.path,
            other.ctx,
            other.size.sizes.kv_cells,
            other.size.sizes.kv_type,
            other.size.sizes.slots,
        )


@dataclass(frozen=True)
class _Computing:
    """What every option has alike: how it would be computed."""

    threads: int
    tuning: Tuning
    repacked_types: frozenset[str]
    gpus: tuple[Gpu, ...]
    helping: Helping


def options_of(
    headers: Sequence[GgufHeader],
    overrides: Overrides,
    device: Device,
    tuning: Tuning,
    budget: Budget | None = None,
) -> list[PlanOption]:
    """Every choice for the files behind `headers`,
    which are in order of quality; best first. `budget` decides what helpers take over:
    nothing without one.

    Raises `BadSettings` where overrides contradict the model or the files, or where no
    choice is possible at all.
    """
    threads = overrides.threads or tuning.threads or device.threads
    repacked = repacked_types(device.cpu_flags) if tuning.use_extra_bufts else frozenset()
    gpus = usable_gpus(device.accelerators, device.unified_memory)
    helping = NOBODY_HELPS if budget is None else Helping.beside(device, budget.usable_bytes)
    computing = _Computing(
        threads=threads, tuning=tuning, repacked_types=repacked, gpus=gpus, helping=helping
    )
    wanted = [(header, read_shape(header)) for header in _wanted(headers, overrides.quant)]
    options = [
        _option(header, shape, overrides, computing, _Smallest(ctx, kv_type, slots))
        for at in range(len(LEAST_CONTEXTS))
        for header, shape in wanted
        for ctx in _contexts(header, shape, overrides)[at : at + 1]
        for kv_type, slots in (
            [(EXACT_KV, 1)]
            if embedding.embeds(header)
            else _kv_types_and_slots(overrides, _kv_types(shape, computing))
        )
    ]
    if all(option.need is None for option in options):
        raise BadSettings(impossible_kv_type(options[0]))
    return options


def impossible_kv_type(option: PlanOption) -> str:
    return (
        f"{option.size.sizes.kv_type} KV is impossible: it needs heads of whole blocks of 32 "
        f"values, and this model's have {option.shape.key_length}. Use --kv-type f16."
    )


def with_drafts(option: PlanOption, budget: Budget) -> PlanOption:
    """The same with logits for drafted tokens, as many as are wanted, and earlier states
    to go back to where the model has any; unchanged where that does not fit.
    """
    num_rows = min(option.overrides.max_draft_rows, option.overrides.max_batch_rows - 1)
    for num_states in _rollbacks(option, budget):
        size = option.size.resized(max_draft_rows=num_rows, rollback_states=num_states)
        drafting = replace(option, size=size).placed()
        if drafting.fits(budget) and drafting.gpu_layers >= option.gpu_layers:
            return drafting
    return option


def _rollbacks(option: PlanOption, budget: Budget) -> Iterator[int]:
    """How many earlier states of each sequence may be kept for drafts, the best first."""
    state, size = option.shape.state, option.size
    if not state.num_bytes:
        yield 0
    elif state.keeps_earlier and option.overrides.max_draft_rows:
        for num_states in ROLLBACK_STATES:
            num_bytes = num_states * size.num_sequences * state.num_bytes
            fits_step = num_states + 2 <= size.sizes.ubatch_rows
            if fits_step and num_bytes * _MAX_STATES_SHARE <= budget.usable_bytes:
                yield num_states


def grow(option: PlanOption, budget: Budget) -> PlanOption:
    """The same file, KV type and slots with the longest context and then the largest
    pool that still fit.
    """
    overrides = option.overrides
    if overrides.kv_cells is not None or option.size.embeds:
        return option
    if overrides.ctx is None:
        longest = option.shape.train_ctx
        option = _largest(
            lambda cells: _with_pool(option, min(longest, cells), cells), option, longest, budget
        )
    most_cells = max(option.ctx * option.size.sizes.slots, option.size.sizes.kv_cells)
    return _largest(lambda cells: _with_pool(option, option.ctx, cells), option, most_cells, budget)


def _wanted(headers: Sequence[GgufHeader], quant: str | None) -> list[GgufHeader]:
    """The files to choose from, in their order."""
    if quant is None:
        return list(headers)
    wanted = [header for header in headers if header.quantization == quant]
    if not wanted:
        there = ", ".join(header.quantization for header in headers) or "none"
        raise BadSettings(
            f"--quant {quant} is not available for this model. Available files: {there}."
        )
    return wanted


def _contexts(header: GgufHeader, shape: ModelShape, overrides: Overrides) -> list[int]:
    """The least contexts to try, longest first:
    only the user's own, where it is set.
    """
    if overrides.ctx is not None:
        if overrides.ctx > shape.train_ctx and not overrides.ctx_is_most:
            raise BadSettings(
                f"--ctx must be at most {shape.train_ctx} for {header.path.name} (got "
                f"{overrides.ctx}): beyond the context it was trained for, the model writes "
                "nonsense."
            )
        return [min(overrides.ctx, shape.train_ctx)]
    if embedding.embeds(header):
        return embedding.contexts(header, shape)
    most = min(shape.train_ctx, overrides.kv_cells or LEAST_CONTEXTS[0])
    return [most, *(ctx for ctx in LEAST_CONTEXTS if ctx < most)][: len(LEAST_CONTEXTS)]


def _kv_types(shape: ModelShape, computing: _Computing) -> tuple[str, ...]:
    """Best first."""
    if computing.tuning.own_q8_0_attention and not computing.gpus:
        return (SMALL_KV, EXACT_KV) if allows_kv_type(shape, SMALL_KV) else (EXACT_KV,)
    return EXACT_KV, SMALL_KV


def _kv_types_and_slots(overrides: Overrides, best: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    kv_types = (overrides.kv_type,) if overrides.kv_type else best
    if overrides.slots is not None:
        yield from ((kv_type, overrides.slots) for kv_type in kv_types)
        return
    slots = min(WANTED_SLOTS, overrides.max_batch_rows)
    yield from ((kv_type, slots) for kv_type in kv_types)
    if slots > 1:
        yield SMALL_KV if SMALL_KV in kv_types else kv_types[0], 1


@dataclass(frozen=True)
class _Smallest:
    ctx: int
    kv_type: str
    slots: int


def _option(
    header: GgufHeader,
    shape: ModelShape,
    overrides: Overrides,
    computing: _Computing,
    smallest: _Smallest,
) -> PlanOption:
    if embedding.embeds(header):
        # On the CPU: these models are small, and placing them on GPUs has not been
        # tried.
        alone = replace(overrides, max_draft_rows=0, gpu=GpuOverrides(gpu_layers=0))
        return PlanOption(
            header=header,
            shape=shape,
            size=_embedding_size(header, alone, computing, smallest),
            overrides=alone,
            ctx=smallest.ctx,
        ).placed()
    on_cpu = PlanOption(
        header=header,
        shape=shape,
        size=_size(overrides, computing, smallest),
        overrides=overrides,
        ctx=smallest.ctx,
    )
    if not allows_kv_type(shape, smallest.kv_type):
        return on_cpu
    if not computing.gpus:
        return on_cpu.placed()
    if computing.helping.is_last_resort(computing.gpus, overrides.gpu):
        here = replace(on_cpu, no_gpu_reason=ALL_FITS_HERE).placed()
        if here.need is not None and computing.helping.fits(here.need):
            return here
    size = _size(overrides, computing, smallest, on_gpu=True)
    on_gpu = replace(on_cpu, size=size, gpus=computing.gpus, helping=computing.helping).placed()
    assert on_gpu.placement is not None
    if on_gpu.gpu_layers > 0 or on_gpu.gpu_refusal is not None:
        return on_gpu
    return replace(on_cpu, no_gpu_reason=on_gpu.placement.reason).placed()


def _size(
    overrides: Overrides, computing: _Computing, smallest: _Smallest, *, on_gpu: bool = False
) -> ServeSize:
    tuning = computing.tuning
    flash_attention = uses_flash_attention(smallest.kv_type, tuning.flash_attention, on_gpu=on_gpu)
    tuned_rows = None if on_gpu else tuning.ubatch_rows  # tuned on the CPU
    return ServeSize(
        sizes=ContextSizes(
            kv_cells=padded_cells(overrides.kv_cells or smallest.ctx),
            slots=smallest.slots,
            max_rows=overrides.max_batch_rows,
            kv_type=smallest.kv_type,
            threads=computing.threads,
            batch_threads=tuning.batch_threads or computing.threads,
            flash_attention=flash_attention,
            ubatch_rows=ubatch_rows(overrides.max_batch_rows, tuned_rows, on_gpu=on_gpu),
        ),
        repacked_types=computing.repacked_types,
        use_mmap=tuning.use_mmap,
        own_kernels=tuning.own_kernels and not on_gpu,
        moves_cells=overrides.moves_cells,
        adapter_bytes=overrides.adapter_bytes,
        max_body_bytes=overrides.max_body_bytes or largest_body_bytes(smallest.ctx),
    )


_BODY_INPUTS = 64  # of a whole context each, for which a request's body has room


def _embedding_size(
    header: GgufHeader, overrides: Overrides, computing: _Computing, smallest: _Smallest
) -> ServeSize:
    """Flash attention always: without it the scores of all rows of a step are kept, and
    it takes up to five times as long on CPUs (decision 14).
    """
    return ServeSize(
        sizes=ContextSizes(
            kv_cells=padded_cells(smallest.ctx) if embedding.has_cache(header) else 0,
            slots=smallest.slots,
            max_rows=overrides.max_batch_rows,
            kv_type=smallest.kv_type,
            threads=computing.threads,
            batch_threads=computing.tuning.batch_threads or computing.threads,
            flash_attention=True,
            ubatch_rows=smallest.ctx,
        ),
        repacked_types=computing.repacked_types,
        use_mmap=computing.tuning.use_mmap,
        own_kernels=computing.tuning.own_kernels,
        max_body_bytes=overrides.max_body_bytes or largest_body_bytes(_BODY_INPUTS * smallest.ctx),
        embeds=True,
    )


def _largest(
    sized: Callable[[int], PlanOption], option: PlanOption, most_cells: int, budget: Budget
) -> PlanOption:
    """What `sized` makes of the largest padded number of cells up to `most_cells` that
    fits; `option` is known to.
    """
    low, high = option.size.sizes.kv_cells // CELL_PADDING, padded_cells(most_cells) // CELL_PADDING
    best = option
    while low < high:
        middle = (low + high + 1) // 2
        larger = sized(middle * CELL_PADDING)
        if larger.fits(budget) and larger.gpu_layers >= option.gpu_layers:
            low, best = middle, larger
        else:
            high = middle - 1
    return best


def _with_pool(option: PlanOption, ctx: int, kv_cells: int) -> PlanOption:
    body_bytes = option.overrides.max_body_bytes or largest_body_bytes(ctx)
    size = replace(option.size.resized(kv_cells=kv_cells), max_body_bytes=body_bytes)
    return replace(option, ctx=ctx, size=size).placed()
