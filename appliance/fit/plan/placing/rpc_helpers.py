"""How many layers leave this machine for helpers on others: as few as possible.

Knows no file and no context.

The rule. A token passes the layers one after the other, so what it takes is the sum of each
machine's share, bytes / bandwidth, and a crossing of the network for each helper:

1. A helper that is clearly faster than this machine's own memory is a GPU like any other:
   it gets all that fits (see `layer_assignment`).
2. Any other only ever makes a token slower, so helpers get the fewest layers with which the
   rest fits here, and none where all does. Once one is used, the next layer there costs no
   further crossing: a longer context may then move more.
3. What the user has set (`--gpu-layers`, `--tensor-split`, `--split-mode`) goes before both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from appliance.fit.machine.device import Device
from appliance.fit.plan.footprint import Footprint
from appliance.fit.plan.offload import Gpu, GpuOverrides, SplitMode
from appliance.fit.plan.placement import Demand, Placement
from appliance.fit.plan.placing.layer_assignment import place

ALL_FITS_HERE = "all layers fit on this machine, so no helper is used"
# What helpers copy by one thread and this machine by several: only a GPU's memory, or a
# machine of another kind, is that much faster.
_CLEARLY_FASTER = 2.0


@dataclass(frozen=True)
class Helping:
    """When helpers are used."""

    usable_bytes: int = 0  # of this machine's RAM
    own_bytes_per_s: float = 0.0  # its memory's, read and written; 0: not measured

    @classmethod
    def beside(cls, device: Device, usable_bytes: int) -> Helping:
        speed = 0.0 if device.bandwidth is None else device.bandwidth.copy_bytes_per_s
        return cls(usable_bytes, speed)

    def fits(self, need: Footprint) -> bool:
        return need.claimed_bytes <= self.usable_bytes

    def is_last_resort(self, gpus: Sequence[Gpu], overrides: GpuOverrides) -> bool:
        """Whether there are no GPUs but slow helpers, and the choice is ours."""
        return _is_free(overrides) and all(self._is_slow(gpu) for gpu in gpus)

    def place(
        self,
        need: Demand,
        gpus: Sequence[Gpu],
        overrides: GpuOverrides,
        in_ram: Callable[[Placement], Footprint],
    ) -> Placement:
        """As `place`, with the fewest layers on slow helpers; `in_ram` tells what a
        placement takes here. Raises `BadSettings` as that does.
        """
        fast = [gpu for gpu in gpus if not self._is_slow(gpu)]
        if len(fast) == len(gpus) or not _is_free(overrides):
            return place(need, gpus, overrides)
        without = place(need, fast, overrides)
        if self.fits(in_ram(without)):
            return without if fast else replace(without, reason=ALL_FITS_HERE)

        def at_most(count: int) -> Placement:
            return place(need, gpus, replace(overrides, most_layers=count))

        most = at_most(overrides.most_layers)
        low, high = without.offload.gpu_layers, most.offload.gpu_layers
        best = most
        while high - low > 1:
            middle = (low + high) // 2
            made = at_most(middle)
            if made.offload.gpu_layers == middle and self.fits(in_ram(made)):
                high, best = middle, made
            else:
                low = middle
        return replace(best, reason=_reason(best)) if best.shares else best

    def _is_slow(self, gpu: Gpu) -> bool:
        if gpu.link is None:
            return False
        return gpu.link.copy_bytes_per_s < _CLEARLY_FASTER * self.own_bytes_per_s or (
            not self.own_bytes_per_s
        )


NOBODY_HELPS = Helping()


def _is_free(overrides: GpuOverrides) -> bool:
    return (
        overrides.gpu_layers is None
        and not overrides.tensor_split
        and overrides.split_mode is SplitMode.LAYER
    )


def _reason(placement: Placement) -> str:
    parts = " and ".join(f"{share.num_layers} on {share.gpu.name}" for share in placement.shares)
    here = placement.num_layers - placement.offload.gpu_layers
    return (
        f"not all of it fits on this machine, so of {placement.num_layers} layers {here} are "
        f"computed here and {parts}"
    )
