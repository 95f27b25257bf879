"""What the tests of plans begin with: a machine, a user's overrides and a model."""

from __future__ import annotations

from appliance.fit.machine.device import Device
from appliance.fit.plan.footprint import ServeSize
from appliance.fit.plan.overrides import Overrides
from appliance.protocol.context_sizes import ContextSizes
from bench.memory_kinds import KindShape
from tests.store.samples import Sample

DEVICE = Device(
    ram_total_bytes=1 << 34,
    ram_available_bytes=1 << 34,
    memory_limit=None,
    usable_cpus=4,
    usable_cores=2,
    cpu_quota=None,
    cpu_flags=frozenset({"avx2"}),
)
OVERRIDES = Overrides(slots=4, max_batch_rows=512)
SAMPLE = Sample(layers=4, tokens=40000, train_ctx=16384)
HYBRID = KindShape(width=256, head=64, heads=4, kv_heads=2, ff=512, blocks=8, state=64)


def size_of(rollback_states: int, kv_type: str = "f16", kv_cells: int = 1024) -> ServeSize:
    return ServeSize(
        sizes=ContextSizes(
            kv_cells=kv_cells,
            slots=4,
            max_rows=256,
            kv_type=kv_type,
            threads=1,
            batch_threads=1,
            ubatch_rows=128,
            flash_attention=True,
            max_draft_rows=16,
            rollback_states=rollback_states,
        )
    )
