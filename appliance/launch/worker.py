"""What a worker is told: a plan's sizes and the settings' bounds. Knows no process."""

from __future__ import annotations

from appliance.fit.plan.planner import Plan
from appliance.launch.drafts import is_required
from appliance.launch.machine import Machine
from appliance.launch.spec import ModelSpec
from appliance.protocol.adapters import AdapterFile
from appliance.protocol.kernel_use import NO_KERNELS
from appliance.protocol.measured_node import NodeMemory
from appliance.store.chat_templates.reading import read_chat_template
from appliance.worker.config import DraftConfig, WorkerConfig

# of one stream's decoding, by kept prefixes that nobody uses
_MAX_PREFIX_SLOWDOWN = 0.03


def worker_config(
    plan: Plan, spec: ModelSpec, machine: Machine, adapters: tuple[AdapterFile, ...]
) -> WorkerConfig:
    """`adapters` are those of the model that was prepared."""
    settings = spec.settings
    resident_cells, host_bytes = settings.resident_prefix_cells, settings.prefix_host_bytes
    if plan.embeds:
        host_bytes = 0
    disk_ttl_s = settings.prefix_disk_ttl.seconds
    return WorkerConfig(
        model_path=str(plan.model_path),
        sizes=plan.sizes,
        ctx=plan.ctx,
        max_waiting_tokens=settings.max_waiting,
        max_stall_ms=settings.max_stall_ms,
        resident_prefix_cells=plan.sizes.kv_cells if resident_cells is None else resident_cells,
        prefix_host_bytes=plan.spare_bytes_for_prefixes if host_bytes is None else host_bytes,
        prefix_disk_bytes=settings.prefix_disk_bytes if disk_ttl_s else 0,
        prefix_disk_ttl_s=disk_ttl_s,
        prefix_dir=str(spec.state_dir / "prefixes"),
        step_times_dir=str(spec.state_dir / "step-times"),
        max_prefix_slowdown=_MAX_PREFIX_SLOWDOWN if resident_cells is None else None,
        prefix_ttl_s=settings.prefix_ttl_s,
        use_extra_bufts=plan.use_extra_bufts,
        use_mmap=plan.use_mmap,
        tables=plan.tables,
        max_row_cells=plan.max_row_cells,
        prompt_lookup=settings.prompt_lookup,
        repeatable=settings.repeatable,
        exact=settings.exact,
        cache_reuse=settings.cache_reuse,
        draft=_draft_config(plan, spec),
        adapters=list(adapters),
        adapter_turn_ms=settings.adapter_turn_ms,
        offload=plan.placement.offload,
        kernels=NO_KERNELS if plan.placement.shares else machine.kernels,
        memory=NodeMemory(
            total_bytes=plan.need.total_bytes,
            weights_bytes=plan.need.weights_bytes + plan.need.repacked_bytes,
            kv_bytes=plan.need.kv_bytes,
        ),
        binds_threads=_fills(machine, plan),
        log_level=spec.log_level,
        log_format=spec.log_format,
        confine=spec.confine,
        chat_template=""
        if settings.chat_template is None or plan.embeds
        else read_chat_template(settings.chat_template),
        tools=settings.tools,
        embeds=plan.embeds,
    )


def _fills(machine: Machine, plan: Plan) -> bool:
    """Threads that have all cores stay on one each; of fewer, all processes' would be
    bound to the same first ones.
    """
    return max(plan.sizes.threads, plan.sizes.batch_threads) >= machine.device.usable_cores


def _draft_config(plan: Plan, spec: ModelSpec) -> DraftConfig | None:
    draft = plan.draft
    if draft is None or draft.missing_bytes:
        return None
    return DraftConfig(
        model_path=str(draft.path),
        kv_cells=plan.sizes.slots * draft.window,
        max_rows=draft.max_rows,
        is_required=is_required(spec.settings),
        is_own=draft.is_own,
    )
