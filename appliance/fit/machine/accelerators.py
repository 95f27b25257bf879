"""GPUs as llama.cpp lists them, and whether their memory is the machine's own.

Knows no library: the list is handed in.

Sources: kinds of ggml-backend.h; Documentation/devicetree/bindings/arm/tegra.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.fit.machine.kernel_files import read_text

RPC = "RPC"  # the kind of a device of another machine


@dataclass(frozen=True, kw_only=True)
class Link:
    """How far away another machine's device is, as measured."""

    round_trip_s: float
    bytes_per_s: float  # written to it; 0: there was no room to try
    copy_bytes_per_s: float  # read and written in its own memory, by one thread of a CPU


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One device that llama.cpp can compute on."""

    name: str
    description: str
    # GPU, IGPU (its memory is the machine's), ACCEL (computes on the machine's memory) or
    # RPC (another machine's)
    kind: str
    memory_total_bytes: int
    memory_free_bytes: int
    splits_rows: bool = False  # its backend can hold some rows of a matrix, others the rest
    link: Link | None = None  # to another machine's


def unified_memory(root: Path) -> str | None:
    """What makes CPU and GPU share one memory on this machine, as far as Linux shows: a
    Jetson's name, else None.
    """
    compatible = read_text(root / "proc/device-tree/compatible").split("\0")
    # Containers hide the device tree; the system-on-chip driver still names its family.
    if any(name.startswith("nvidia,tegra") for name in compatible):
        return read_text(root / "proc/device-tree/model").rstrip("\0") or "NVIDIA Tegra"
    return "NVIDIA Tegra" if read_text(root / "sys/devices/soc0/family") == "Tegra" else None


def own_memory_bytes(accelerators: Sequence[Accelerator], unified: str | None) -> int:
    """Free memory of GPUs beside the machine's: that of unified memory is the
    machine's, and counted there once.
    """
    if unified is not None:
        return 0
    return sum(
        accelerator.memory_free_bytes for accelerator in accelerators if accelerator.kind == "GPU"
    )
