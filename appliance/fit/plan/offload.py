"""The records of GPU offload: what the user set, what there is, what llama.cpp gets.

Knows no model and no choice.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.fit.machine.accelerators import RPC, Accelerator, Link

ALL_LAYERS = 1 << 20  # more than any model has: every layer, the output layer too
_MIN_HEADROOM_BYTES = 256 << 20
_HEADROOM_SHARE = 0.05


class SplitMode(str, enum.Enum):
    """How several GPUs share a model:
    whole layers each, rows of every matrix, or one GPU alone.
    """

    LAYER = "layer"
    ROW = "row"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class GpuOverrides:
    """What the user has set about GPUs."""

    gpu_layers: int | None = None  # None: as many as fit, at most `most_layers`
    most_layers: int = ALL_LAYERS
    split_mode: SplitMode = SplitMode.LAYER
    tensor_split: tuple[float, ...] = ()  # a proportion for every GPU; empty: by free memory
    # the only one used in split mode `none`; None: the one with the most free memory
    main_gpu: int | None = None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU that llama.cpp would use."""

    name: str
    description: str
    free_bytes: int
    shares_ram: bool = False  # its memory is the machine's, so what it takes is RAM
    splits_rows: bool = False  # it can hold some rows of a matrix, other GPUs the rest
    link: Link | None = None  # to another machine's, where it is one

    @property
    def headroom_bytes(self) -> int:
        """Stays free for what the estimate does not know: the larger of 256 MiB and 5 %
        of what is free.
        """
        return min(
            self.free_bytes, max(_MIN_HEADROOM_BYTES, int(self.free_bytes * _HEADROOM_SHARE))
        )

    @property
    def usable_bytes(self) -> int:
        return self.free_bytes - self.headroom_bytes


@dataclass(frozen=True, kw_only=True)
class Offload:
    """What llama.cpp is to put on GPUs."""

    gpu_layers: int = 0  # the last ones, of the blocks and then the output layer
    devices: tuple[str, ...] = ()  # by name; empty without layers: no GPU is even opened
    split_mode: SplitMode = SplitMode.LAYER
    # one for each device: how many layers it takes or, by rows, its proportion
    tensor_split: tuple[float, ...] = ()
    main_gpu: int = 0
    kv_on_gpu: bool = False  # a block's KV cache is where the block is; else all is in RAM


def usable_gpus(accelerators: Sequence[Accelerator], unified: str | None) -> tuple[Gpu, ...]:
    """The GPUs that llama.cpp takes by default: those with memory of their own, or
    integrated ones where none has; before them the devices of helpers.

    `unified` says what makes even the former share the machine's memory (Apple
    silicon), as `appliance.fit.machine.accelerators.unified_memory` finds it. One that
    does not report its free memory is left out: nothing can be planned onto it. Source:
    llama.cpp src/llama.cpp, `llama_prepare_model_devices`.
    """
    helpers = _of_kind(accelerators, RPC)
    # the fastest last: it is given its layers first
    helpers.sort(key=lambda gpu: gpu.link.copy_bytes_per_s if gpu.link is not None else 0.0)
    for kind in ("GPU", "IGPU"):
        gpus = _of_kind(accelerators, kind, shares_ram=kind == "IGPU" or unified is not None)
        if gpus:
            return (*helpers, *gpus)
    return tuple(helpers)


def _of_kind(
    accelerators: Sequence[Accelerator], kind: str, *, shares_ram: bool = False
) -> list[Gpu]:
    return [
        Gpu(
            name=accelerator.name,
            description=accelerator.description,
            free_bytes=accelerator.memory_free_bytes,
            shares_ram=shares_ram,
            splits_rows=accelerator.splits_rows,
            link=accelerator.link,
        )
        for accelerator in accelerators
        if accelerator.kind == kind and accelerator.memory_free_bytes > 0
    ]
