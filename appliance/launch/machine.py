"""This machine as a load is planned for it: memory, cores, GPUs, CPU paths, kernels.

Knows no model and no placement.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.errors import BadSettings
from appliance.fit.machine.accelerators import RPC, Accelerator
from appliance.fit.machine.bandwidth import BandwidthKey, BandwidthMemory
from appliance.fit.machine.device import Device, measure_device
from appliance.fit.plan.offload import ALL_LAYERS, usable_gpus
from appliance.launch.cpu_paths import cpu_paths
from appliance.launch.kernels import kernel_use
from appliance.launch.rpc_helpers import find_helpers
from appliance.launch.spec import ModelSpec
from appliance.launch.time_budget import TimeBudget
from appliance.llama.checks import CpuPaths, LibraryInfo, inspect_library, may_have_gpus
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse
from appliance.settings import ModelSettings
from appliance.store.event import OnEvent

# The median pass over the best: 1.1 on a quiet machine, 3.5 on a busy one (measured).
_SETTLED_SPREAD = 1.5


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
        return GpuList((), "llama.cpp was built without GPU support here")
    library = inspect_library()
    if not isinstance(library, LibraryInfo):
        return GpuList((), f"unknown: llama.cpp, when asked for them, {library}")
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
    return GpuList(found, "as llama.cpp lists them" if found else "llama.cpp can use none")


def with_bandwidth(device: Device, state_dir: Path, *, anew: bool = False) -> Device:
    """The same device with its memory bandwidth: as remembered, or measured (half a
    second) and then remembered. What was measured while something else ran is measured
    again.
    """
    known = recall_bandwidth(device, state_dir)
    is_settled = known.bandwidth is not None and known.bandwidth.spread <= _SETTLED_SPREAD
    if is_settled and not anew:
        return known
    # here: NumPy is not for every command
    from appliance.fit.machine.memory_copy import measure_bandwidth

    measured = measure_bandwidth(device.threads, device.free_bytes, device.cache_bytes or 0)
    if measured is None:
        return known
    memory = BandwidthMemory(state_dir)
    return replace(device, bandwidth=memory.remember(_bandwidth_key(device), measured))


def recall_bandwidth(device: Device, state_dir: Path) -> Device:
    """The same device with its memory bandwidth, if it was measured before."""
    return replace(device, bandwidth=BandwidthMemory(state_dir).recall(_bandwidth_key(device)))


def _bandwidth_key(device: Device) -> BandwidthKey:
    return BandwidthKey(
        device.cpu_name or platform.machine(), device.ram_total_bytes, device.threads
    )


@dataclass(frozen=True)
class Machine:
    """What a load is planned for, measured once for it and handed down."""

    device: Device  # with the GPUs and helpers that may be used
    paths: CpuPaths
    gpu_finding: str | None  # in words why no GPU is used; None: there is one
    kernels: KernelUse = NO_KERNELS


@dataclass(frozen=True)
class Hardware:
    """The first half of a `Machine`, known at once."""

    device: Device
    gpu_finding: str | None


def measure_machine(
    spec: ModelSpec, on_event: OnEvent, budget: TimeBudget | None = None
) -> Machine:
    """Raises what `measure_hardware` and `with_cpu_paths` raise."""
    return with_cpu_paths(measure_hardware(spec.settings), spec, on_event, budget)


def with_cpu_paths(
    hardware: Hardware, spec: ModelSpec, on_event: OnEvent, budget: TimeBudget | None = None
) -> Machine:
    """Probes the CPU paths, and our kernels (seconds), where not everything is
    remembered of them. Where GPUs compute, our kernels do not.

    Raises what `prepare_model` raises for the embedded model, and `kernel_use`.
    """
    device = hardware.device
    if any(accelerator.kind == RPC for accelerator in device.accelerators):
        device = with_bandwidth(device, spec.state_dir)  # theirs is compared with it
    kernels = NO_KERNELS
    # First, for what is left of the time: with them a machine serves several times as much.
    if hardware.gpu_finding is not None:
        kernels = kernel_use(spec, device, on_event, budget)
    paths = cpu_paths(spec, device, on_event, budget)
    return Machine(device, paths, hardware.gpu_finding, kernels)


def measure_hardware(settings: ModelSettings) -> Hardware:
    """Asks a child for GPUs, unless none are wanted or llama.cpp is built without any;
    and helpers over the network, where there are some.

    Raises `BadSettings` where `--gpu-layers` wants a GPU and there is none, and what
    `find_helpers` raises.
    """
    if settings.gpu_layers == 0:
        return Hardware(measure_device(), "--gpu-layers is 0")
    helpers = find_helpers(settings.rpc)
    gpus = list_gpus()
    device = measure_device(accelerators=(*gpus.accelerators, *helpers.devices))
    if usable_gpus(gpus.accelerators, device.unified_memory):
        return Hardware(device, None)
    if settings.gpu_layers is not None and not settings.rpc:  # a helper may come back
        wanted = "all" if settings.gpu_layers == ALL_LAYERS else settings.gpu_layers
        raise BadSettings(
            f"--gpu-layers {wanted} needs a GPU, but there is none to use: {gpus.finding}. Build "
            "llama.cpp for the GPU of this machine (./install.sh --cuda; on macOS ./install.sh), "
            "or compute on the CPU with --gpu-layers 0 or auto."
        )
    return Hardware(device, gpus.finding)
