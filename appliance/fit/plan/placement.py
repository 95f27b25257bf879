"""Where every byte of a model goes: onto which GPU, and what stays in RAM.

Knows no rule by which that is chosen.

Sources, llama.cpp as pinned in pyproject.toml: `load_tensors` in src/llama-model.cpp
(layers), src/llama-kv-cache.cpp (a block's KV cache is where the block is),
`sched_reserve` in src/llama-context.cpp and ggml/src/ggml-backend.cpp (a compute buffer
for each device). No GPU was at hand when this was written: docs/guide/gpu.md says how
to compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.fit.plan.footprint import Footprint, ServeSize, footprint
from appliance.fit.plan.kv_cache import kv_cell_bytes, padded_cells
from appliance.fit.plan.offload import Gpu, Offload, SplitMode
from appliance.fit.plan.placing.layers import LayerBytes, layer_bytes
from appliance.fit.plan.shape import ModelShape
from appliance.store.gguf_header import GgufHeader

_PIPELINE_COPIES = 4  # ggml-backend.cpp: GGML_SCHED_MAX_COPIES
_POSITION_BYTES = 32  # per row, as in footprint
# What the GPU's driver and libraries take of the worker's own memory. Not measured by
# us; CUDA is said to take 100 to 300 MiB. Their memory on the GPU is not counted: the
# child that measures what is free there has just taken as much.
DRIVER_BYTES = 300 << 20


@dataclass(frozen=True, kw_only=True)
class GpuShare:
    """What one GPU holds."""

    gpu: Gpu
    num_layers: int  # blocks and the output layer
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.gpu.usable_bytes


@dataclass(frozen=True)
class HostShare:
    """What stays in RAM.

    The weights of layers on GPUs are read through the page cache once and can then
    leave it, so they do not count.
    """

    weights_bytes: int  # mapped from the file
    kv_bytes: int
    compute_bytes: int
    driver_bytes: int


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What goes where."""

    offload: Offload
    shares: tuple[GpuShare, ...]
    host: HostShare
    num_layers: int  # all that could go to GPUs
    reason: str  # why those of `offload` do, in words
    refusal: str | None = None  # why the requested layers do not fit; then none are offloaded


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is to be placed: a model's layers,
    and what computing them takes anywhere.
    """

    layers: LayerBytes
    all_weights_bytes: int
    compute_bytes: int  # a whole step's buffer and scratch
    attention_bytes: int  # what a GPU adds to that where the KV cache is quantized
    input_bytes: int  # the part that only feeds GPUs: attention mask, embeddings of the rows

    def shares(
        self, gpus: Sequence[Gpu], counts: Sequence[int], *, kv_on_gpu: bool
    ) -> tuple[GpuShare, ...]:
        """With the last `sum(counts)` layers on `gpus`, each the next `counts` of them;
        GPUs without any left out.
        """
        used = [(gpu, count) for gpu, count in zip(gpus, counts, strict=True) if count > 0]
        first = self.layers.num_layers - sum(counts)
        compute_bytes = self._gpu_compute_bytes(first, len(used), kv_on_gpu=kv_on_gpu)
        shares = []
        for gpu, count in used:
            weights = self.layers.weights_bytes[first : first + count]
            kv = self.layers.kv_bytes[first : first + count] if kv_on_gpu else ()
            shares.append(
                GpuShare(
                    gpu=gpu,
                    num_layers=count,
                    weights_bytes=sum(weights),
                    kv_bytes=sum(kv),
                    compute_bytes=compute_bytes,
                )
            )
            first += count
        return tuple(shares)

    def row_shares(
        self,
        gpus: Sequence[Gpu],
        counts: Sequence[int],
        proportions: Sequence[float],
        *,
        kv_on_gpu: bool,
    ) -> tuple[GpuShare, ...]:
        """As `shares`, but of every layer's weights each GPU holds its proportion; the
        KV cache is split by layers.
        """
        first = self.layers.num_layers - sum(counts)
        whole_bytes = sum(self.layers.weights_bytes[first:])
        compute_bytes = self._gpu_compute_bytes(first, len(gpus), kv_on_gpu=kv_on_gpu)
        shares, proportion, placed_bytes = [], 0.0, 0
        for gpu, count, own in zip(gpus, counts, proportions, strict=True):
            proportion += own
            up_to_here = (
                whole_bytes if gpu is gpus[-1] else int(whole_bytes * proportion / sum(proportions))
            )
            kv = self.layers.kv_bytes[first : first + count] if kv_on_gpu else ()
            shares.append(
                GpuShare(
                    gpu=gpu,
                    num_layers=count,
                    weights_bytes=up_to_here - placed_bytes,
                    kv_bytes=sum(kv),
                    compute_bytes=compute_bytes,
                )
            )
            first, placed_bytes = first + count, up_to_here
        return tuple(shares)

    def host(self, offload: Offload, shares: Sequence[GpuShare]) -> HostShare:
        """What stays in RAM beside `shares`.

        Token embeddings always do, as a copy where they are the output too.
        """
        in_vram = sum(share.weights_bytes for share in shares)
        tied_bytes = self.layers.tied_bytes if shares else 0
        if len(shares) == 0 or offload.gpu_layers < self.layers.num_layers or not offload.kv_on_gpu:
            compute_bytes = self.compute_bytes
        else:
            pipelined = len(shares) > 1 and offload.split_mode is SplitMode.LAYER
            compute_bytes = self.input_bytes * (_PIPELINE_COPIES if pipelined else 1)
        return HostShare(
            weights_bytes=self.all_weights_bytes - in_vram + tied_bytes,
            kv_bytes=sum(self.layers.kv_bytes) - sum(share.kv_bytes for share in shares),
            compute_bytes=compute_bytes,
            driver_bytes=DRIVER_BYTES if any(share.gpu.link is None for share in shares) else 0,
        )

    def _gpu_compute_bytes(self, first: int, num_gpus: int, *, kv_on_gpu: bool) -> int:
        """Each GPU's: of a whole step, for its largest operations are in every layer.

        Weights in RAM are copied to a GPU, one tensor after the other, for steps of
        many rows (`op_offload`). Where everything is on several GPUs they compute
        different steps at once, each with its own inputs.
        """
        num_bytes = self.compute_bytes + (self.attention_bytes if kv_on_gpu else 0)
        if first > 0:
            return num_bytes + self.layers.largest_in_block_bytes
        return num_bytes + (
            self.input_bytes * (_PIPELINE_COPIES - 1) if num_gpus > 1 and kv_on_gpu else 0
        )


def demand(header: GgufHeader, shape: ModelShape, size: ServeSize) -> Demand:
    """Of serving this file at this size. Raises what `footprint` raises."""
    need = footprint(header, shape, size)
    cells, rows = padded_cells(size.sizes.kv_cells), size.sizes.ubatch_rows
    mask_bytes = (2 if size.sizes.flash_attention else 4) * cells * rows
    # A quantized KV cache is made f16 for attention, layer by layer
    # (ggml-cuda/fattn.cu).
    widest = replace(shape, num_kv_heads=(max(shape.num_kv_heads),))
    return Demand(
        layers=layer_bytes(header, shape, size),
        all_weights_bytes=need.weights_bytes,
        compute_bytes=need.compute_bytes + need.scratch_bytes,
        attention_bytes=0 if size.sizes.kv_type == "f16" else cells * kv_cell_bytes(widest, "f16"),
        input_bytes=mask_bytes + rows * (4 * shape.embedding + _POSITION_BYTES),
    )


def ram_need(need: Footprint, placement: Placement) -> Footprint:
    """`need`, which has everything in RAM, with what `placement` leaves there; the
    memory of some GPUs is RAM too.

    Layers in RAM beside a GPU with memory of its own are not repacked: llama.cpp
    prefers buffers that the GPU can read. Helpers on other machines have none such.
    """
    if not placement.shares:
        return need
    host, in_ram = placement.host, [share for share in placement.shares if share.gpu.shares_ram]
    is_plain = any(
        share.gpu.link is None and not share.gpu.shares_ram for share in placement.shares
    )
    repacks = not is_plain and placement.offload.gpu_layers < placement.num_layers
    return replace(
        need,
        weights_bytes=host.weights_bytes + sum(share.weights_bytes for share in in_ram),
        repacked_bytes=need.repacked_bytes if repacks else 0,
        kv_bytes=host.kv_bytes + sum(share.kv_bytes for share in in_ram),
        compute_bytes=host.compute_bytes + sum(share.compute_bytes for share in in_ram),
        scratch_bytes=0,  # among compute_bytes
        worker_bytes=need.worker_bytes + host.driver_bytes,
    )
