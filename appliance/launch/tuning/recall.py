"""Plans with what was found by tuning, where that costs nothing else. Measures nothing."""

from __future__ import annotations

from dataclasses import replace

from appliance.errors import NothingFits
from appliance.fit.machine.device import Device
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.record import TuningKey, TuningRecord, TuningRecords
from appliance.launch.files import PreparedModel, plan_model
from appliance.llama.checks import CpuPath, CpuPaths, machine_key
from appliance.settings import ServeSettings


def plan_on_best_path(
    settings: ServeSettings,
    model: PreparedModel,
    device: Device,
    paths: CpuPaths,
    budget: Budget | None = None,
) -> Plan:
    """The plan with what was found fastest for its file and KV type; or less of that
    where it would cost something.

    Repacked weights are a second copy in memory, and scores of attention take room too:
    where that takes quantization, context or cells from the model, speed is not worth
    it. `budget` takes the place of what is free. Raises what `plan_model` raises, and
    `NoUsableCpuPath`.
    """
    default = plan_untuned(settings, model, device, paths, budget)
    record = recall_tuning(settings, default, device, paths)
    if record is None:
        return default
    plain = replace(record.tuning, use_extra_bufts=default.use_extra_bufts)
    for tuning in dict.fromkeys((record.tuning, plain)):
        try:
            plan = plan_model(settings, model, device, tuning, budget=budget)
        except NothingFits:
            continue
        if _costs_nothing(plan, default):
            return plan
    return default


def plan_untuned(
    settings: ServeSettings,
    model: PreparedModel,
    device: Device,
    paths: CpuPaths,
    budget: Budget | None = None,
) -> Plan:
    """Raises what `plan_model` raises, and `NoUsableCpuPath`."""
    return plan_model(settings, model, device, default_tuning(paths), budget=budget)


def default_tuning(paths: CpuPaths) -> Tuning:
    """How to compute where nothing was measured. Raises `NoUsableCpuPath`."""
    return Tuning(use_extra_bufts=paths.use_extra_bufts())


def recall_tuning(
    settings: ServeSettings, plan: Plan, device: Device, paths: CpuPaths
) -> TuningRecord | None:
    """What was found for the plan's file and KV type on this machine as it is."""
    if not plan.model_path.is_file():  # only its header was read, from a hub
        return None
    key = tuning_key(plan, device, paths)
    return TuningRecords(settings.state_dir).recall(plan.model_path, key)


def tuning_key(plan: Plan, device: Device, paths: CpuPaths) -> TuningKey:
    """Raises `OSError` where the plan's file is gone."""
    file = plan.model_path.stat()
    return TuningKey(
        model_bytes=file.st_size,
        model_modified_ns=file.st_mtime_ns,
        kv_type=plan.kv_type,
        machine=machine_key(),
        usable_cores=device.usable_cores,
        cpu_quota=device.cpu_quota,
        cpu_paths=tuple(path.value for path in CpuPath if paths.of(path).usable),
    )


def how_computed(plan: Plan) -> str:
    """In words, after "computes": all that tuning may choose."""
    weights = "extra buffer types" if plan.use_extra_bufts else "plain weights"
    attention = "with" if plan.flash_attention else "without"
    file = "mapped from the file" if plan.use_mmap else "read into memory"
    return (
        f"on {weights}, {file}, with {plan.threads} threads ({plan.batch_threads} for several "
        f"tokens), up to {plan.ubatch_rows} tokens together, {attention} flash attention"
    )


def _costs_nothing(plan: Plan, default: Plan) -> bool:
    """Whether the same file is served with the same KV type to as many, and nothing is shorter."""
    same = (plan.model_path, plan.kv_type, plan.slots) == (
        default.model_path,
        default.kv_type,
        default.slots,
    )
    return same and plan.ctx >= default.ctx and plan.kv_cells >= default.kv_cells
