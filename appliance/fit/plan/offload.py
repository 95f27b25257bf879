"""The records of GPU offload: what is wished, what there is, what llama.cpp is told.

Knows no model and no choice.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.fit.machine.accelerators import Accelerator

ALL_LAYERS = 1 << 20  # more than any model has: every layer, the output layer too
_MIN_HEADROOM_BYTES = 256 << 20
_HEADROOM_SHARE = 0.05


class SplitMode(str, enum.Enum):
    """How several GPUs share a model: whole layers each, rows of every matrix, or one GPU alone."""

    LAYER = "layer"
    ROW = "row"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class GpuOverrides:
    """What the user has set. `gpu_layers` None: as many as fit, but `most_layers` at most.

    `tensor_split` has a proportion for every GPU, or is empty: by free memory.
    `main_gpu` is the only one used in split mode `none`; None: the one with the most
    free memory.
    """

    gpu_layers: int | None = None
    most_layers: int = ALL_LAYERS
    split_mode: SplitMode = SplitMode.LAYER
    tensor_split: tuple[float, ...] = ()
    main_gpu: int | None = None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU that llama.cpp would use.

    `shares_ram`: its memory is the machine's, so what it takes is RAM.
    """

    name: str
    description: str
    free_bytes: int
    shares_ram: bool = False
    splits_rows: bool = False

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
    """What llama.cpp is told.

    The last `gpu_layers` layers (blocks, then the output layer) go to `devices`, by
    name.

    `tensor_split` has as many numbers as there are devices: how many layers each takes,
    or, by rows, its proportion. `kv_on_gpu`: the KV cache of a block is where the block
    is; else all of it is in RAM. Without layers there are no devices, and no GPU is
    even opened.
    """

    gpu_layers: int = 0
    devices: tuple[str, ...] = ()
    split_mode: SplitMode = SplitMode.LAYER
    tensor_split: tuple[float, ...] = ()
    main_gpu: int = 0
    kv_on_gpu: bool = False


def usable_gpus(accelerators: Sequence[Accelerator], unified: str | None) -> tuple[Gpu, ...]:
    """The GPUs that llama.cpp takes by default: those with memory of their own, or
    integrated ones where none has.

    `unified` says what makes even the former share the machine's memory (Apple
    silicon), as `appliance.fit.machine.accelerators.unified_memory` tells. One that
    does not tell its free memory is left out: nothing can be planned onto it. Source:
    llama.cpp src/llama.cpp, `llama_prepare_model_devices`.
    """
    for kind in ("GPU", "IGPU"):
        gpus = tuple(
            Gpu(
                name=accelerator.name,
                description=accelerator.description,
                free_bytes=accelerator.memory_free_bytes,
                shares_ram=kind == "IGPU" or unified is not None,
                splits_rows=accelerator.splits_rows,
            )
            for accelerator in accelerators
            if accelerator.kind == kind and accelerator.memory_free_bytes > 0
        )
        if gpus:
            return gpus
    return ()
