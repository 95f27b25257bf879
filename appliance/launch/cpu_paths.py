"""Which CPU paths of llama.cpp work here, found with the embedded model.

Knows no serving and no speed. What a path is, and how one is judged, is in
`appliance.llama.checks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.device import Device
from appliance.launch.files import prepare_model
from appliance.launch.spec import ModelSpec
from appliance.launch.time_budget import TimeBudget
from appliance.llama.checks import PROBE, CpuPaths, PathMemory, find_cpu_paths, probe_paths
from appliance.store.catalog import load_catalog
from appliance.store.event import OnEvent, StoreEvent

STATE_FILE_NAME = "cpu_paths.json"


def path_memory(state_dir: Path) -> PathMemory:
    return PathMemory(state_dir / STATE_FILE_NAME)


def cpu_paths(
    spec: ModelSpec, device: Device, on_event: OnEvent, budget: TimeBudget | None = None
) -> CpuPaths:
    """What is remembered of them; else probed (which takes seconds), and remembered:
    within `budget`, whose end may leave some of it to the next time.

    The embedded model stands for all: it is small, and there in one file for each
    family of kernels.
    """
    memory = path_memory(spec.state_dir)
    known = memory.recall()
    if known is not None and not known.untested:
        return known
    files = embedded_files(spec, on_event)
    on_event(
        StoreEvent("checking which CPU paths of llama.cpp compute correctly here (once, seconds)")
    )
    threads = spec.settings.threads or device.threads
    if budget is None:
        return find_cpu_paths(files, threads, memory)
    found = find_cpu_paths(files, threads, memory, left_s=budget.left_s)
    if found.untested:
        num_tested = len(files) - len(found.untested)
        on_event(
            StoreEvent(
                f"the check stops here, with {num_tested} of {len(files)} files, so as not to "
                "delay the start: plain weights are used, and the next start goes on with it"
            )
        )
    return found


def embedded_files(spec: ModelSpec, on_event: OnEvent) -> list[Path]:
    """The embedded model in all its quantizations, converted where need be.

    Raises what `prepare_model` raises.
    """
    embedded = spec.named(load_catalog().fallback.name)
    return [header.path for header in prepare_model(embedded, on_event).headers]


@dataclass(frozen=True)
class Examination:
    """How to look at the paths.

    A path that was given up after a crash stays so, however well it does now (some
    faults show once an hour), unless crashes are to be forgotten.
    """

    threads: int
    forget: bool = False
    probe: Sequence[str] = PROBE


def examine_cpu_paths(files: Sequence[Path], memory: PathMemory, how: Examination) -> CpuPaths:
    """Both paths, probed anew on `files`, and remembered."""
    known = memory.recall()
    paths = probe_paths(files, how.threads, how.probe)
    if known is not None and not how.forget:
        paths = paths.with_demotions_of(known)
    memory.remember(paths)
    return paths
