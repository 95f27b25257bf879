"""What the tests of placements begin with: a small model's demand, GPUs by size."""

from __future__ import annotations

from appliance.fit.plan.offload import Gpu, GpuOverrides
from appliance.fit.plan.placement import Demand
from appliance.fit.plan.placing.layers import LayerBytes

MIB = 1 << 20
GIB = 1 << 30
AUTO = GpuOverrides()
# Four blocks of 100 MiB with 10 MiB of KV cache each, an output layer of 50, and 20 MiB
# of embeddings that stay in RAM.
MODEL = Demand(
    layers=LayerBytes(
        weights_bytes=(100 * MIB,) * 4 + (50 * MIB,),
        kv_bytes=(10 * MIB,) * 4 + (0,),
        largest_in_block_bytes=40 * MIB,
        tied_bytes=0,
    ),
    all_weights_bytes=470 * MIB,
    compute_bytes=30 * MIB,
    attention_bytes=0,
    input_bytes=5 * MIB,
)


def gpu(usable_mib: float, name: str = "CUDA0", **others: bool) -> Gpu:
    """Of so much memory beside its headroom of 256 MiB."""
    made = Gpu(
        name=name, description="a GPU", free_bytes=int(usable_mib * MIB) + 256 * MIB, **others
    )
    assert made.usable_bytes == int(usable_mib * MIB)
    return made
