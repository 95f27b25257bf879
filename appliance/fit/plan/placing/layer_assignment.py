"""Chooses which layers go to which GPU, and why.

Knows no machine's RAM: that is the plan's.

The rule, in this order:

1. As many layers as fit, or as many as were asked for, each with the KV cache of its
   block: what is left in RAM is read there for every token. Layers go as llama.cpp
   counts them: the output layer first, then blocks from the last one on.
2. On one GPU if they fit on one, the one with the most memory: every further one costs
   a crossing per step.
3. Else each takes layers by its proportion of usable memory, as llama.cpp itself does,
   where that fits; else each GPU is filled before the next. `tensor_split` sets the
   proportions.
4. Where there are helpers on other machines, local GPUs are filled first, from the output
   layer on, and then one helper after the other, the fastest first: the order of
   `usable_gpus` is theirs. How many layers leave this machine at all is not decided here
   (see `search`).
5. Only where layers were asked for that do not fit with their KV cache, it stays in
   RAM.

The KV cache never stays in RAM for the sake of more layers on a GPU. With V bytes of
usable memory, L blocks of w bytes and k of cache: by rule 1, L(w + k) - V bytes stay in
RAM to be read in every step over a full cache; with all weights on the GPU and no cache
there, Lk. The latter is possible where V >= Lw, and there the former is not more.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from appliance.errors import BadSettings
from appliance.fit.plan.budget import readable
from appliance.fit.plan.offload import Gpu, GpuOverrides, Offload, SplitMode
from appliance.fit.plan.placement import Demand, GpuShare, Placement


def place(need: Demand, gpus: Sequence[Gpu], overrides: GpuOverrides) -> Placement:
    """Where this demand goes on `gpus` (see `usable_gpus`) and in RAM.

    Where requested layers do not fit, `refusal` says so: another file or size may fit.
    Raises `BadSettings` for what these GPUs can never do.
    """
    if overrides.gpu_layers == 0:
        return _in_ram(need, "no layer goes to a GPU, as requested")
    if not gpus:
        if overrides.gpu_layers is not None:
            raise BadSettings(
                "--gpu-layers needs a GPU, but llama.cpp can use none on this machine. Use "
                "--gpu-layers 0 or auto."
            )
        return _in_ram(need, "there is no GPU that llama.cpp can use")
    chooser = _Chooser(need, _wanted(gpus, overrides), overrides)
    if overrides.gpu_layers is None:
        return chooser.most()
    return chooser.exactly(min(overrides.gpu_layers, need.layers.num_layers))


def _wanted(gpus: Sequence[Gpu], overrides: GpuOverrides) -> tuple[Gpu, ...]:
    """The GPUs that may be used.

    Raises `BadSettings` where the overrides contradict them.
    """
    there = ", ".join(f"{at}: {gpu.name} ({gpu.description})" for at, gpu in enumerate(gpus))
    if overrides.split_mode is SplitMode.NONE:
        if overrides.tensor_split:
            raise BadSettings(
                "--tensor-split divides a model among several GPUs, but --split-mode none uses "
                "only one. Remove one of the two options."
            )
        if overrides.main_gpu is None:
            return (max(gpus, key=lambda gpu: gpu.usable_bytes),)
        if overrides.main_gpu >= len(gpus):
            raise BadSettings(
                f"--main-gpu {overrides.main_gpu} does not exist. The GPUs are {there}."
            )
        return (gpus[overrides.main_gpu],)
    if overrides.main_gpu is not None:
        raise BadSettings(
            f"--main-gpu {overrides.main_gpu} is only for --split-mode none (got --split-mode "
            f"{overrides.split_mode.value}). Add --split-mode none, or leave GPUs out with a 0 in "
            "--tensor-split."
        )
    if overrides.tensor_split and len(overrides.tensor_split) != len(gpus):
        raise BadSettings(
            f"--tensor-split must have one number for each of the {len(gpus)} GPUs (got "
            f"{len(overrides.tensor_split)}). The GPUs are {there}; use 0 for one that should stay "
            "unused."
        )
    if overrides.tensor_split and not any(overrides.tensor_split):
        raise BadSettings(
            "--tensor-split is 0 for every GPU. Give at least one GPU a number above 0, or use "
            "--gpu-layers 0."
        )
    unable = [gpu.name for gpu in gpus if not gpu.splits_rows]
    if overrides.split_mode is SplitMode.ROW and unable:
        raise BadSettings(
            f"--split-mode row is not possible: llama.cpp cannot split matrices by rows on "
            f"{', '.join(unable)}. "
            "Use --split-mode layer."
        )
    return tuple(gpus)


@dataclass(frozen=True)
class _Chooser:
    need: Demand
    gpus: tuple[Gpu, ...]
    overrides: GpuOverrides

    def most(self) -> Placement:
        """As many layers as fit with their KV cache, at most `most_layers`."""
        num_layers = self.need.layers.num_layers
        allowed = min(num_layers, self.overrides.most_layers)
        shares = self._shares(num_layers, kv_on_gpu=True) if allowed == num_layers else ()
        if not shares:
            shares = self._most_below(min(allowed, num_layers - 1))
        if not shares:
            return _in_ram(self.need, f"no layer fits on {_usable(self.gpus)}")
        return self._placement(shares, kv_on_gpu=True)

    def _most_below(self, most: int) -> tuple[GpuShare, ...]:
        """Of up to `most` layers, which are not all.

        By halves, for what fits of more layers fits of fewer, too.

        Not so by given proportions: another layer may then leave a small GPU for a
        large one.
        """
        if self.overrides.tensor_split or self.overrides.split_mode is SplitMode.ROW:
            return next(
                filter(None, (self._shares(count, kv_on_gpu=True) for count in range(most, 0, -1))),
                (),
            )
        low = 0
        best: tuple[GpuShare, ...] = ()
        while low < most:
            middle = (low + most + 1) // 2
            shares = self._shares(middle, kv_on_gpu=True)
            low, most, best = (middle, most, shares) if shares else (low, middle - 1, best)
        return best

    def exactly(self, count: int) -> Placement:
        for kv_on_gpu in (True, False):
            shares = self._shares(count, kv_on_gpu=kv_on_gpu)
            if shares:
                return self._placement(shares, kv_on_gpu=kv_on_gpu)
        refusal = (
            f"--gpu-layers {count} does not fit on {_usable(self.gpus)}, but "
            f"{self.most().offload.gpu_layers} would. Use a smaller number or --gpu-layers auto"
        )
        return _in_ram(self.need, "the requested layers do not fit", refusal)

    def _shares(self, count: int, *, kv_on_gpu: bool) -> tuple[GpuShare, ...]:
        """The best way to have the last `count` layers on the
        GPUs; empty if there is none.
        """
        if self.overrides.split_mode is SplitMode.ROW:
            proportions = self._proportions()
            counts = _by_proportion(count, proportions)
            return _fitting(
                self.need.row_shares(self.gpus, counts, proportions, kv_on_gpu=kv_on_gpu)
            )
        if self.overrides.tensor_split:
            counts = _by_proportion(count, self.overrides.tensor_split)
            return _fitting(self.need.shares(self.gpus, counts, kv_on_gpu=kv_on_gpu))
        if any(gpu.link is not None for gpu in self.gpus):
            counts = self._filled_from_the_end(count, kv_on_gpu=kv_on_gpu)
            return _fitting(self.need.shares(self.gpus, counts, kv_on_gpu=kv_on_gpu))
        largest = max(self.gpus, key=lambda gpu: gpu.usable_bytes)
        return (
            _fitting(self.need.shares([largest], [count], kv_on_gpu=kv_on_gpu))
            or _fitting(
                self.need.shares(
                    self.gpus, _by_proportion(count, self._proportions()), kv_on_gpu=kv_on_gpu
                ),
            )
            or _fitting(
                self.need.shares(
                    self.gpus, self._filled(count, kv_on_gpu=kv_on_gpu), kv_on_gpu=kv_on_gpu
                )
            )
        )

    def _proportions(self) -> tuple[float, ...]:
        """One for every GPU."""
        return self.overrides.tensor_split or tuple(
            float(max(1, gpu.usable_bytes)) for gpu in self.gpus
        )

    def _filled(self, count: int, *, kv_on_gpu: bool) -> list[int]:
        """Layers of each GPU if one is filled before the next; the last one gets what
        is left, fitting or not.
        """
        up_to = [0, *itertools.accumulate(self._layers(count, kv_on_gpu=kv_on_gpu))]
        compute_bytes = self._shared_compute_bytes(count, kv_on_gpu=kv_on_gpu)
        counts, done = [], 0
        for gpu in self.gpus[:-1]:
            room = gpu.usable_bytes - compute_bytes
            # none where the room is negative
            reached = max(done, bisect.bisect_right(up_to, up_to[done] + room) - 1)
            counts.append(reached - done)
            done = reached
        return [*counts, count - done]

    def _filled_from_the_end(self, count: int, *, kv_on_gpu: bool) -> list[int]:
        """Layers of each GPU if the last one is filled first; the first one gets what is
        left, fitting or not.
        """
        each = self._layers(count, kv_on_gpu=kv_on_gpu)
        compute_bytes = self._shared_compute_bytes(count, kv_on_gpu=kv_on_gpu)
        counts = []
        for gpu in reversed(self.gpus[1:]):
            room, taken = gpu.usable_bytes - compute_bytes, 0
            while each and each[-1] <= room:
                room -= each.pop()
                taken += 1
            counts.append(taken)
        return [len(each), *reversed(counts)]

    def _layers(self, count: int, *, kv_on_gpu: bool) -> list[int]:
        """Bytes of each of the last `count` layers."""
        layers = self.need.layers
        kv_bytes = layers.kv_bytes if kv_on_gpu else (0,) * layers.num_layers
        each = [weights + kv for weights, kv in zip(layers.weights_bytes, kv_bytes, strict=True)]
        return each[layers.num_layers - count :]

    def _shared_compute_bytes(self, count: int, *, kv_on_gpu: bool) -> int:
        """Of each of several GPUs: their buffers are larger than that of one alone."""
        two = len(self.gpus) > 1 and count > 1
        shares = self.need.shares(self.gpus[:2], [count - 1, 1], kv_on_gpu=kv_on_gpu) if two else ()
        return max((share.compute_bytes for share in shares), default=self.need.compute_bytes)

    def _placement(self, shares: tuple[GpuShare, ...], *, kv_on_gpu: bool) -> Placement:
        count, num_layers = sum(share.num_layers for share in shares), self.need.layers.num_layers
        by_rows = self.overrides.split_mode is SplitMode.ROW
        offload = Offload(
            gpu_layers=count,
            devices=tuple(share.gpu.name for share in shares),
            split_mode=self.overrides.split_mode,
            # Whole numbers of layers: of these, llama.cpp's comparison of proportions
            # in float makes just them again.
            tensor_split=self._proportions()
            if by_rows
            else tuple(float(share.num_layers) for share in shares),
            kv_on_gpu=kv_on_gpu,
        )
        cache = (
            "with their KV cache" if kv_on_gpu else "(without their KV cache, which stays in RAM)"
        )
        names = " and ".join(share.gpu.name for share in shares)
        whole = count == num_layers
        fit = (
            f"all {count} layers {cache} fit"
            if whole
            else f"{count} of {num_layers} layers {cache} fit"
        )
        reason = (
            f"{fit} on {names}"
            if self.overrides.gpu_layers is None
            else f"{fit} on {names}, as requested"
        )
        return Placement(
            offload=offload,
            shares=shares,
            host=self.need.host(offload, shares),
            num_layers=num_layers,
            reason=reason,
        )


def _in_ram(need: Demand, reason: str, refusal: str | None = None) -> Placement:
    return Placement(
        offload=Offload(),
        shares=(),
        host=need.host(Offload(), ()),
        num_layers=need.layers.num_layers,
        reason=reason,
        refusal=refusal,
    )


def _fitting(shares: tuple[GpuShare, ...]) -> tuple[GpuShare, ...]:
    return shares if all(share.fits for share in shares) else ()


def _by_proportion(count: int, proportions: Sequence[float]) -> list[int]:
    """How many of `count` layers each GPU gets: layer i goes to the first with i /
    count below its running share.

    As llama.cpp does it (`get_layer_buft_list` in src/llama-model.cpp), in exact
    arithmetic.
    """
    whole = sum(map(Fraction, proportions))
    ends = [
        math.ceil(count * running / whole)
        for running in itertools.accumulate(map(Fraction, proportions))
    ]
    return [end - start for start, end in itertools.pairwise([0, *ends])]


def _usable(gpus: Sequence[Gpu]) -> str:
    return " and ".join(f"{gpu.name} ({readable(gpu.usable_bytes)} usable)" for gpu in gpus)
