"""From settings to this machine with its GPUs, and to what is wished of them.

Knows no model and no placement.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.errors import BadSettings
from appliance.fit.machine.accelerators import Accelerator
from appliance.fit.machine.bandwidth import BandwidthMemory
from appliance.fit.machine.bandwidth import Machine as BandwidthKey
from appliance.fit.machine.device import Device, measure
from appliance.fit.plan.offload import ALL_LAYERS, GpuOverrides, SplitMode, usable_gpus
from appliance.llama.checks import LibraryInfo, inspect_library, may_have_gpus
from appliance.settings import ServeSettings


@dataclass(frozen=True)
class GpuList:
    """What llama.cpp can compute on beside the CPU, and in words how that is known."""

    accelerators: tuple[Accelerator, ...]
    finding: str


def list_gpus() -> GpuList:
    """Asked anew each time (a child process, a second): free memory changes.

    `finding` says where it went wrong.
    """
    if not may_have_gpus():
        return GpuList((), "llama.cpp is built without GPU support here")
    library = inspect_library()
    if not isinstance(library, LibraryInfo):
        return GpuList((), f"unknown: llama.cpp, asked for them, {library}")
    found = tuple(
        Accelerator(
            name=seen.name,
            description=seen.description,
            kind=seen.kind,
            memory_total_bytes=seen.memory_total_bytes,
            memory_free_bytes=seen.memory_free_bytes,
            splits_rows=seen.splits_rows,
        )
        for seen in library.devices
        if seen.is_gpu
    )
    return GpuList(found, "as llama.cpp lists them" if found else "none that llama.cpp can use")


def with_bandwidth(device: Device, state_dir: Path, *, anew: bool = False) -> Device:
    """The same device with its memory bandwidth: as remembered, or measured (half a
    second) and then remembered.
    """
    machine = BandwidthKey(
        device.cpu_name or platform.machine(), device.ram_total_bytes, device.threads
    )
    memory = BandwidthMemory(state_dir)
    bandwidth = memory.recall(machine)
    if bandwidth is None or anew:
        # here: NumPy is not for every command
        from appliance.fit.machine.memory_copy import measure_bandwidth

        measured = measure_bandwidth(device.threads, device.free_bytes, device.cache_bytes or 0)
        bandwidth = memory.remember(machine, measured) if measured is not None else bandwidth
    return replace(device, bandwidth=bandwidth)


@dataclass(frozen=True)
class Machine:
    """The device with the GPUs that may be used; `gpu_finding` says in words why there
    are none, else None.
    """

    device: Device
    gpu_finding: str | None


def measure_machine(settings: ServeSettings) -> Machine:
    """Asks a child for GPUs, unless none are wanted or llama.cpp is built without any.

    Raises `BadSettings` where `--gpu-layers` wants a GPU and there is none.
    """
    if settings.gpu_layers == 0:
        return Machine(measure(), "--gpu-layers 0 wants none")
    gpus = list_gpus()
    device = measure(accelerators=gpus.accelerators)
    if usable_gpus(device.accelerators, device.unified_memory):
        return Machine(device, None)
    if settings.gpu_layers is not None:
        wanted = "all" if settings.gpu_layers == ALL_LAYERS else settings.gpu_layers
        raise BadSettings(
            f"--gpu-layers {wanted}: there is no GPU to use: {gpus.finding}. Build llama.cpp for "
            "the GPU of this machine (./install.sh --cuda; on macOS ./install.sh), or compute on "
            "the CPU with --gpu-layers 0 or auto."
        )
    return Machine(device, gpus.finding)


def gpu_overrides_of(settings: ServeSettings) -> GpuOverrides:
    return GpuOverrides(
        gpu_layers=settings.gpu_layers,
        split_mode=SplitMode(settings.split_mode),
        tensor_split=settings.tensor_split,
        main_gpu=settings.main_gpu,
    )
