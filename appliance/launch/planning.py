"""What is launched: a model, on a machine, within a budget; and the plan for it.

Knows no formula, no server and no process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.fit.plan.budget import Budget, memory_budget
from appliance.fit.plan.offload import GpuOverrides, SplitMode
from appliance.fit.plan.overrides import Overrides
from appliance.fit.plan.planner import Candidate, Plan, make_plan, weigh
from appliance.fit.plan.search import MAX_DRAFT_ROWS
from appliance.fit.tuning.choices import Tuning
from appliance.launch.checked_plan import checked_plan
from appliance.launch.drafts import drafts_itself, may_draft
from appliance.launch.files import PreparedModel
from appliance.launch.machine import Machine
from appliance.launch.spec import ModelSpec
from appliance.llama.checks import DryLoads
from appliance.protocol.kernel_use import ATTENTION_Q8_0
from appliance.settings import ModelSettings

DRY_LOADS_FILE_NAME = "dry_loads.json"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One load of a model, made once and handed down: nobody below measures or finds
    anything of it again.
    """

    model: PreparedModel
    machine: Machine
    overrides: Overrides  # what the user has set of the plan
    own_tuning: Mapping[str, bool | int]  # and of how it is computed, by field of `Tuning`
    budget: Budget
    state_dir: Path  # where results of measurements are remembered
    confine: str = "auto"  # whether children that read the model keep their rights


def launch_of(
    spec: ModelSpec, model: PreparedModel, machine: Machine, budget: Budget | None = None
) -> Launch:
    """`budget` takes the place of the memory that is free, or of --ram."""
    adapter_bytes = sum(adapter.num_bytes for adapter in model.adapters)
    overrides = replace(overrides_of(spec), adapter_bytes=adapter_bytes)
    if spec.settings.rpc and not machine.device.accelerators:  # all helpers are gone
        overrides = replace(overrides, gpu=GpuOverrides())
    return Launch(
        model=model,
        machine=machine,
        overrides=overrides,
        own_tuning=_own_tuning(spec.settings),
        budget=budget or memory_budget(machine.device, spec.ram),
        state_dir=spec.state_dir,
        confine=spec.confine,
    )


def plan(launch: Launch, tuning: Tuning) -> Plan:
    """The plan, checked by llama.cpp's own account;
    what the user set goes before `tuning`.

    Raises `BadSettings` or `NothingFits`.
    """

    def plan_within(budget: Budget) -> Plan:
        return _plan_within(launch, budget, tuning)

    dry_loads = DryLoads(
        launch.state_dir / DRY_LOADS_FILE_NAME,
        kernels=launch.machine.kernels,
        confine=launch.confine,
    )
    return checked_plan(plan_within, launch.budget, dry_loads)


def estimate(launch: Launch, tuning: Tuning, budget: Budget) -> Plan:
    """The same within `budget` by arithmetic alone: at once, and a few per cent off.

    Raises what `plan` raises.
    """
    return _plan_within(launch, budget, tuning)


def weigh_candidates(launch: Launch) -> tuple[Candidate, ...]:
    """What each choice would take where none fits. Raises `BadSettings`."""
    return weigh(launch.model.headers, launch.overrides, launch.machine.device, launch.budget)


def with_own_tuning(tuning: Tuning, launch: Launch) -> Tuning:
    """`tuning` with what the user has set of it, and what the machine decides."""
    kernels = launch.machine.kernels
    machine = {
        "own_kernels": bool(kernels.library),
        "own_q8_0_attention": kernels.has(ATTENTION_Q8_0),
    }
    return tuning.with_values({**launch.own_tuning, **machine})


def overrides_of(spec: ModelSpec) -> Overrides:
    """What the user has set of a plan."""
    settings = spec.settings
    return Overrides(
        slots=settings.slots,
        max_batch_rows=settings.max_batch_rows,
        ctx=settings.ctx,
        ctx_is_most=spec.ctx_is_most,
        kv_cells=settings.kv_cells,
        quant=settings.quant,
        kv_type=settings.kv_type or ("f16" if settings.flash_attention is False else None),
        ram=spec.ram,
        threads=settings.threads,
        max_body_bytes=spec.max_body_bytes,
        max_draft_rows=MAX_DRAFT_ROWS if may_draft(settings) else 0,
        drafts_itself=drafts_itself(settings),
        moves_cells=settings.cache_reuse > 0,
        gpu=GpuOverrides(
            gpu_layers=settings.gpu_layers,
            split_mode=SplitMode(settings.split_mode),
            tensor_split=settings.tensor_split,
            main_gpu=settings.main_gpu,
        ),
    )


def _plan_within(launch: Launch, budget: Budget, tuning: Tuning) -> Plan:
    return make_plan(
        launch.model.headers,
        launch.overrides,
        launch.machine.device,
        budget,
        with_own_tuning(tuning, launch),
        launch.model.draft,
    )


def _own_tuning(settings: ModelSettings) -> dict[str, bool | int]:
    """By field of `Tuning`; who sets --threads alone means both."""
    given = {
        "threads": settings.threads,
        "batch_threads": settings.batch_threads or settings.threads,
        "flash_attention": settings.flash_attention,
        "ubatch_rows": settings.ubatch_rows,
        "use_mmap": settings.mmap,
    }
    return {field: value for field, value in given.items() if value is not None}
