"""Chooses what to serve and how large:
the best candidate under the memory budget, and why.

Knows no llama.cpp.

The rule, in this order:

1. the best quantization (see `quality`) that fits with a context of 4,096 tokens, or
   the model's own if that is shorter, a pool of as many KV cells, and four slots: with
   f16 KV if that fits, else with q8_0, else with q8_0 and one slot; where none fits,
   the same again with half the context, down to 512 tokens;
2. then the longest context up to the model's own;
3. then the largest pool of KV cells up to context x slots.

Speculation is the first thing that is given up: room for drafted tokens, and then a
draft model, are taken where they fit beside what was chosen without them at 1, and then
2 and 3 have what is left.

"Fits" means that what a choice claims (`Footprint.claimed_bytes`) is within the budget
less a headroom. What the user has set is kept, never shortened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.errors import NothingFits
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.drafting import DRAFT_ROWS, DRAFT_WINDOW, draft_bytes, heads_bytes
from appliance.fit.plan.footprint import Footprint
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.placement import Placement
from appliance.fit.plan.quality import Ranking, rank
from appliance.fit.plan.reasons import in_short, nothing_fits, reason, verdict
from appliance.fit.plan.search import PlanOption, grow, options_of, with_drafts
from appliance.fit.plan.shape import can_draft_itself, read_shape
from appliance.fit.plan.weights import ranges_of
from appliance.fit.tuning.choices import Tuning
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.file_range import FileRange
from appliance.store.gguf_header import GgufHeader

_MAX_PREFIX_BYTES = 1 << 30
_ONE_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One file with one KV type: what it takes at its smallest, and what became of it.

    The chosen one is shown as small as the others; how far it was grown is the plan's.
    """

    model_path: Path
    quantization: str
    quality: str  # how good the file is, and by which measure
    kv_type: str
    ctx: int  # tokens
    kv_cells: int
    slots: int
    need: Footprint | None  # None where the combination is impossible
    chosen: bool
    reason: str


@dataclass(frozen=True)
class OtherBudget:
    """What would be served with another amount of memory."""

    more_bytes: int  # negative: less
    choice: str


@dataclass(frozen=True, kw_only=True)
class DraftPlan:
    """The draft model, and the sizes of its context in tokens."""

    path: Path
    quantization: str
    window: int
    max_rows: int
    missing_bytes: int = 0  # above 0: there is no room for it, and it is not loaded
    is_own: bool = False  # heads of the model itself, instead of another model


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a worker needs to know, and how it came about."""

    model_path: Path
    quantization: str
    ctx: int  # tokens; longest request, or longest input of an embedding model
    train_ctx: int  # tokens; what the model was trained for
    sizes: ContextSizes  # an embedding model has no cells, or those of one input
    use_extra_bufts: bool
    use_mmap: bool
    max_row_cells: int | None  # rows of a step times the cells they scan; None: any
    max_body_bytes: int  # of one request
    need: Footprint  # of RAM
    budget: Budget
    reason: str
    candidates: tuple[Candidate, ...]
    other_budgets: tuple[OtherBudget, ...]
    placement: Placement
    draft: DraftPlan | None = None
    tables: tuple[FileRange, ...] = ()  # parts of the file that are read as they are used
    embeds: bool = False

    @property
    def choice(self) -> str:
        """What is chosen, in words."""
        if self.embeds:
            return f"{self.quantization}, embedding inputs of up to {self.ctx} tokens"
        sizes = self.sizes
        slots = "1 slot" if sizes.slots == 1 else f"{sizes.slots} slots"
        return (
            f"{self.quantization}, context {self.ctx}, {sizes.kv_cells} cells of {sizes.kv_type}, "
            f"{slots}"
        )

    @property
    def spare_bytes_for_prefixes(self) -> int:
        """Memory for prefixes that have to leave the KV cache: half of what the plan
        leaves, at most 1 GiB.
        """
        return min((self.budget.usable_bytes - self.need.claimed_bytes) // 2, _MAX_PREFIX_BYTES)


@dataclass(frozen=True)
class _Choice:
    """The option that was taken at its smallest, and as large as it could be made."""

    smallest: PlanOption
    grown: PlanOption


def make_plan(
    headers: Sequence[GgufHeader],
    overrides: Overrides,
    device: Device,
    budget: Budget,
    tuning: Tuning,
    draft: GgufHeader | None = None,
) -> Plan:
    """The plan for serving one of the files behind `headers` on this device, with
    `draft` beside it where that fits.

    Raises `BadSettings` where overrides contradict the model or the files,
    `NothingFits` with the smallest need and the budget where memory is short.
    """
    ranking = rank(headers)
    options = options_of(ranking.headers, overrides, device, tuning, budget)
    choice = _choose(options, budget)
    if choice is None:
        raise NothingFits(nothing_fits(options, budget))
    if choice.grown.size.embeds:
        draft = None
    drafting = with_drafts(choice.smallest, budget)
    need_of_draft, draft_plan = _heads_of(drafting, budget) or _draft_of(draft, drafting, budget)
    if need_of_draft:
        room = _less(budget, need_of_draft)
        choice = replace(choice, grown=grow(with_drafts(choice.smallest, room), room))
    grown = choice.grown
    assert grown.need is not None
    assert grown.placement is not None
    return Plan(
        model_path=grown.header.path,
        quantization=grown.header.quantization,
        ctx=grown.ctx,
        train_ctx=grown.shape.train_ctx,
        sizes=grown.size.sizes,
        use_extra_bufts=tuning.use_extra_bufts,
        use_mmap=tuning.use_mmap,
        max_row_cells=grown.size.max_row_cells,
        max_body_bytes=grown.size.max_body_bytes,
        need=replace(grown.need, draft_bytes=need_of_draft),
        budget=budget,
        reason=reason(grown, options, ranking),
        candidates=_candidates(options, choice.smallest, ranking, budget),
        other_budgets=_other_budgets(options, choice, budget),
        placement=grown.placement,
        draft=draft_plan,
        tables=ranges_of(grown.header) if grown.need.table_bytes else (),
        embeds=grown.size.embeds,
    )


def _heads_of(target: PlanOption, budget: Budget) -> tuple[int, DraftPlan | None] | None:
    """As `_draft_of`, of the file's own heads; None where it has none, or may not draft
    with them.
    """
    if not (target.overrides.drafts_itself and can_draft_itself(target.header)):
        return None
    if not target.size.sizes.max_draft_rows:  # and then earlier states are not kept
        return 0, None
    num_bytes = heads_bytes(target.header, target.shape, target.size)
    return _draft_within(target, budget, target.header, num_bytes, is_own=True)


def _draft_of(
    draft: GgufHeader | None, target: PlanOption, budget: Budget
) -> tuple[int, DraftPlan | None]:
    """(bytes that the draft takes beside `target`, what becomes of it); 0 bytes where
    it does not fit.
    """
    if draft is None:
        return 0, None
    num_bytes = draft_bytes(draft, read_shape(draft), target.size)
    return _draft_within(target, budget, draft, num_bytes, is_own=False)


def _draft_within(
    target: PlanOption, budget: Budget, draft: GgufHeader, num_bytes: int, *, is_own: bool
) -> tuple[int, DraftPlan]:
    assert target.need is not None
    missing_bytes = max(target.need.claimed_bytes + num_bytes - budget.usable_bytes, 0)
    plan = DraftPlan(
        path=draft.path,
        quantization=draft.quantization,
        window=DRAFT_WINDOW,
        max_rows=DRAFT_ROWS,
        missing_bytes=missing_bytes,
        is_own=is_own,
    )
    return (0 if missing_bytes else num_bytes), plan


def _less(budget: Budget, num_bytes: int) -> Budget:
    return replace(budget, total_bytes=budget.total_bytes - num_bytes)


def weigh(
    headers: Sequence[GgufHeader], overrides: Overrides, device: Device, budget: Budget
) -> tuple[Candidate, ...]:
    """What each choice takes at its smallest, with plain weights, where none fits.

    Raises `BadSettings`.
    """
    ranking = rank(headers)
    return _candidates(
        options_of(ranking.headers, overrides, device, Tuning(), budget), None, ranking, budget
    )


def _choose(options: Sequence[PlanOption], budget: Budget) -> _Choice | None:
    smallest = next((option for option in options if option.fits(budget)), None)
    return (
        None if smallest is None else _Choice(smallest, grow(with_drafts(smallest, budget), budget))
    )


def _other_budgets(
    options: Sequence[PlanOption], choice: _Choice, budget: Budget
) -> tuple[OtherBudget, ...]:
    """With a GiB more and less: only what would be something else. Nothing where helpers
    take part: what they do depends on the budget, and is planned for this one alone.
    """
    placement = choice.smallest.placement
    if placement is not None and any(share.gpu.link is not None for share in placement.shares):
        return ()
    others = []
    for more_bytes in (_ONE_GIB, -_ONE_GIB):
        other = _choose(
            options, replace(budget, total_bytes=max(0, budget.total_bytes + more_bytes))
        )
        if other is None or not other.grown.same_choice(choice.grown):
            others.append(OtherBudget(more_bytes, in_short(None if other is None else other.grown)))
    return tuple(others)


def _candidates(
    options: Sequence[PlanOption], chosen: PlanOption | None, ranking: Ranking, budget: Budget
) -> tuple[Candidate, ...]:
    """Each file and KV type once, as large as it is first tried, or where nothing fits
    as small; and the chosen one.
    """
    first: dict[tuple[Path, str], PlanOption] = {}
    for option in options if chosen is not None else reversed(options):
        first.setdefault((option.header.path, option.size.sizes.kv_type), option)
    shown = [o for o in options if o is chosen or o is first[o.header.path, o.size.sizes.kv_type]]
    return tuple(_candidate(option, chosen, ranking, budget) for option in shown)


def _candidate(
    option: PlanOption, chosen: PlanOption | None, ranking: Ranking, budget: Budget
) -> Candidate:
    return Candidate(
        model_path=option.header.path,
        quantization=option.header.quantization,
        quality=ranking.quality_of(option.header),
        kv_type=option.size.sizes.kv_type,
        ctx=option.ctx,
        kv_cells=option.size.sizes.kv_cells,
        slots=option.size.sizes.slots,
        need=option.need,
        chosen=option is chosen,
        reason=verdict(option, chosen, budget),
    )
