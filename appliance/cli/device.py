"""`appliance fit --device`: measures this machine, also what takes a child process or time. Knows no table, no model.

GPUs are asked for in a child, unless llama.cpp is built without any; memory bandwidth is measured once.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from appliance.cli.device_table import as_text
from appliance.fit.accelerators import Accelerator
from appliance.fit.bandwidth import BandwidthMemory, Machine
from appliance.fit.budget import memory_budget
from appliance.fit.device import Device, measure
from appliance.llama.selftest import LibraryInfo, inspect_library, may_have_gpus
from appliance.settings import ServeSettings


@dataclass(frozen=True)
class GpuList:
    """What llama.cpp can compute on beside the CPU, and in words how that is known."""

    accelerators: tuple[Accelerator, ...]
    finding: str


def run(settings: ServeSettings, *, as_json: bool) -> int:
    gpus = list_gpus()
    device = measure(models_dir=settings.models_dir, accelerators=gpus.accelerators)
    device = with_bandwidth(device, settings.state_dir)
    budget = memory_budget(device, settings.ram)
    if as_json:
        record = {**device_record(device), "budget": asdict(budget), "gpu_finding": gpus.finding}
        print(json.dumps(record, indent=2))
    else:
        print(as_text(device, budget, gpus.finding, settings.threads))
    return 0


def list_gpus() -> GpuList:
    """Asked anew each time (a child process, a second): free memory changes. `finding` says where it went wrong."""
    if not may_have_gpus():
        return GpuList((), "llama.cpp is built without GPU support here")
    library = inspect_library()
    if not isinstance(library, LibraryInfo):
        return GpuList((), f"unknown: llama.cpp, asked for them, {library}")
    found = tuple(
        Accelerator(
            seen.name,
            seen.description,
            seen.kind,
            seen.memory_total_bytes,
            seen.memory_free_bytes,
            splits_rows=seen.splits_rows,
        )
        for seen in library.devices
        if seen.is_gpu
    )
    return GpuList(found, "as llama.cpp lists them" if found else "none that llama.cpp can use")


def with_bandwidth(device: Device, state_dir: Path, *, anew: bool = False) -> Device:
    """The same device with its memory bandwidth: as remembered, or measured (half a second) and then remembered."""
    machine = Machine(device.cpu_name or platform.machine(), device.ram_total_bytes, device.threads)
    memory = BandwidthMemory(state_dir)
    bandwidth = memory.recall(machine)
    if bandwidth is None or anew:
        from appliance.fit.memory_copy import measure_bandwidth  # here: NumPy is not for every command

        measured = measure_bandwidth(device.threads, device.free_bytes, device.cache_bytes or 0)
        bandwidth = memory.remember(machine, measured) if measured is not None else bandwidth
    return replace(device, bandwidth=bandwidth)


def device_record(device: Device) -> dict[str, object]:
    """All of it as JSON data, sizes in bytes, with what follows from it."""
    return {
        **asdict(device),
        "cpu_flags": sorted(device.cpu_flags),
        "free_bytes": device.free_bytes,
        "vram_free_bytes": device.vram_free_bytes,
        "threads": asdict(device.thread_choice),
    }
