"""Plans with what was found by tuning, where that costs nothing else.

Measures nothing.
"""

from __future__ import annotations

from dataclasses import replace

from appliance.errors import NothingFits
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.record import TuningKey, TuningRecord, TuningRecords
from appliance.launch.machine import Machine
from appliance.launch.planning import Launch, plan
from appliance.llama.checks import CpuPath, machine_key
from appliance.protocol.kernel_use import ATTENTION_F16


def best_plan(launch: Launch, default: Plan | None = None) -> Plan:
    """The plan with what was found fastest for its file and KV type; or less of that
    where it would cost something.

    Repacked weights are a second copy in memory, and scores of attention take room too:
    where that takes quantization, context or cells from the model, speed is not worth
    it. `default` is the untuned plan, where that is made already. Raises what `plan`
    raises, and `NoUsableCpuPath`.
    """
    default = default or untuned_plan(launch)
    record = recall_tuning(launch, default)
    if record is None:
        return default
    plain = replace(record.tuning, use_extra_bufts=default.use_extra_bufts)
    for tuning in dict.fromkeys((record.tuning, plain)):
        try:
            tuned = plan(launch, tuning)
        except NothingFits:
            continue
        if _costs_nothing(tuned, default):
            return tuned
    return default


def untuned_plan(launch: Launch) -> Plan:
    """Raises what `plan` raises, and `NoUsableCpuPath`."""
    return plan(launch, default_tuning(launch.machine))


def default_tuning(machine: Machine) -> Tuning:
    """How to compute where nothing was measured. Raises `NoUsableCpuPath`."""
    return tuning_on(machine.paths.choose().path, machine)


def tuning_on(path: CpuPath, machine: Machine) -> Tuning:
    """The same on a path that is chosen already. Our own kernels are for flash
    attention; where they are not used, the rule of decision 6 holds.
    """
    return Tuning(
        use_extra_bufts=path is CpuPath.EXTRA_BUFTS,
        flash_attention=True if machine.kernels.has(ATTENTION_F16) else None,
    )


def recall_tuning(launch: Launch, default: Plan) -> TuningRecord | None:
    """What was found for the plan's file and KV type on this machine as it is."""
    if not default.model_path.is_file():  # only its header was read, from a hub
        return None
    key = tuning_key(default, launch.machine)
    return TuningRecords(launch.state_dir).recall(default.model_path, key)


def tuning_key(default: Plan, machine: Machine) -> TuningKey:
    """Raises `OSError` where the plan's file is gone."""
    file = default.model_path.stat()
    return TuningKey(
        model_bytes=file.st_size,
        model_modified_ns=file.st_mtime_ns,
        kv_type=default.sizes.kv_type,
        machine=machine_key(),
        usable_cores=machine.device.usable_cores,
        cpu_quota=machine.device.cpu_quota,
        cpu_paths=tuple(path.value for path in CpuPath if machine.paths.of(path).usable),
        kernels=machine.kernels.identity,
    )


def how_computed(chosen: Plan) -> str:
    """In words, after "computes": all that tuning may choose."""
    sizes = chosen.sizes
    weights = "extra buffer types" if chosen.use_extra_bufts else "plain weights"
    attention = "with" if sizes.flash_attention else "without"
    file = "mapped from the file" if chosen.use_mmap else "read into memory"
    return (
        f"on {weights}, {file}, with {sizes.threads} threads ({sizes.batch_threads} for several "
        f"tokens), up to {sizes.ubatch_rows} tokens together, {attention} flash attention"
    )


def _costs_nothing(tuned: Plan, default: Plan) -> bool:
    """Whether the same file is served with the same KV type
    to as many, and nothing is shorter.
    """
    same = (tuned.model_path, tuned.sizes.kv_type, tuned.sizes.slots) == (
        default.model_path,
        default.sizes.kv_type,
        default.sizes.slots,
    )
    return same and tuned.ctx >= default.ctx and tuned.sizes.kv_cells >= default.sizes.kv_cells
