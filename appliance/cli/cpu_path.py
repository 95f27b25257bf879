"""Which CPU path llama.cpp takes here: found with the embedded model, timed on a wide one, planned for.

Knows no serving; what a path is, and which one is better, is in `appliance.llama.selftest`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.cli.prepare import PreparedModel, plan_model, prepare_model
from appliance.errors import NothingFits
from appliance.fit.budget import Budget
from appliance.fit.device import Device
from appliance.fit.plan import Plan
from appliance.fit.tuning import Tuning
from appliance.llama.selftest import PROBE, CpuPaths, PathMemory, Rounds, find_cpu_paths, probe_paths, time_paths
from appliance.settings import ServeSettings

STATE_FILE_NAME = "cpu_paths.json"
# Two child processes, each with the timing model's weights, once mapped and once repacked, and their compute buffers.
TIMING_NEED_BYTES = 512 << 20


def path_memory(settings: ServeSettings) -> PathMemory:
    return PathMemory(settings.state_dir / STATE_FILE_NAME)


def cpu_paths(settings: ServeSettings, device: Device) -> CpuPaths:
    """What is remembered of them; else probed (seconds, told on stderr), not timed, and remembered.

    The embedded model stands for all: it is small, and there in one file for each family of kernels.
    """
    memory = path_memory(settings)
    known = memory.recall()
    if known is not None:
        return known
    files = embedded_files(settings)
    print("checking on which CPU paths llama.cpp computes right here (seconds, once)", file=sys.stderr)
    return find_cpu_paths(files, settings.threads or device.threads, memory)


def embedded_files(settings: ServeSettings) -> list[Path]:
    """The embedded model in all its quantizations, converted where need be. Raises what `prepare_model` raises."""
    return [header.path for header in prepare_model(settings.for_default_model()).headers]


@dataclass(frozen=True)
class Examination:
    """How to look at the paths: with how many `rounds` of timing (None: untimed), and by which `probe`.

    A path that was given up after a crash stays so, however well it does now (some faults show once an hour), unless
    crashes are to be forgotten.
    """

    threads: int
    rounds: Rounds | None
    forget: bool = False
    probe: Sequence[str] = PROBE


def examine_cpu_paths(files: Sequence[Path], memory: PathMemory, how: Examination) -> CpuPaths:
    """Both paths, probed anew on `files`, timed, and remembered."""
    known = memory.recall()
    paths = probe_paths(files, how.threads, how.probe)
    if how.rounds is not None:
        paths = _timed(paths, how.threads, how.rounds)
    if known is not None and not how.forget:
        paths = paths.with_demotions_of(known)
    memory.remember(paths)
    return paths


def plan_on_best_path(
    settings: ServeSettings, model: PreparedModel, device: Device, paths: CpuPaths, budget: Budget | None = None
) -> Plan:
    """The plan on the CPU path that `paths` choose, or on plain weights where the faster path would cost something.

    Repacked weights are a second copy in memory: where that takes quantization, context or cells from the model, speed
    is not worth it. Raises what `plan_model` raises, and `NoUsableCpuPath`.
    """
    if not paths.use_extra_bufts():
        return plan_model(settings, model, device, Tuning(use_extra_bufts=False), budget)
    if not paths.plain.usable:
        return plan_model(settings, model, device, Tuning(use_extra_bufts=True), budget)
    plain = plan_model(settings, model, device, Tuning(use_extra_bufts=False), budget)
    try:
        repacked = plan_model(settings, model, device, Tuning(use_extra_bufts=True), budget)
    except NothingFits:
        return plain
    return repacked if _sizes(repacked) == _sizes(plain) else plain


def _sizes(plan: Plan) -> tuple[Path, str, int, int]:
    return plan.model_path, plan.kv_type, plan.ctx, plan.kv_cells


def _timed(paths: CpuPaths, threads: int, rounds: Rounds) -> CpuPaths:
    """Timed on random weights as wide as a real model's: the embedded one is too small to tell anything of speed."""
    from appliance.store import synthetic  # here: gguf and its NumPy are not for every command

    shape = synthetic.RandomShape(num_layers=2, embd=2048, ff=5632, heads=16, kv_heads=8, vocab=512, ctx=1024)
    with tempfile.TemporaryDirectory(prefix="appliance-timing-") as folder:
        model = Path(folder) / "random-Q4_K.gguf"
        synthetic.write_random_model(model, shape, "Q4_K")
        return time_paths(paths, model, threads, rounds)
