"""From settings to this machine with its GPUs, and to what is wished of them. Knows no model and no placement."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.cli.device import list_gpus
from appliance.errors import BadSettings
from appliance.fit.device import Device, measure
from appliance.fit.offload import ALL_LAYERS, GpuWish, SplitMode, usable_gpus
from appliance.settings import ServeSettings


@dataclass(frozen=True)
class Machine:
    """The device with the GPUs that may be used; `gpu_finding` says in words why there are none, else None."""

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
            f"--gpu-layers {wanted}: there is no GPU to use: {gpus.finding}. Build llama.cpp for the GPU of this "
            "machine (./install.sh --cuda; on macOS ./install.sh), or compute on the CPU with --gpu-layers 0 or auto."
        )
    return Machine(device, gpus.finding)


def gpu_wish(settings: ServeSettings) -> GpuWish:
    return GpuWish(
        gpu_layers=settings.gpu_layers,
        split_mode=SplitMode(settings.split_mode),
        tensor_split=settings.tensor_split,
        main_gpu=settings.main_gpu,
    )
