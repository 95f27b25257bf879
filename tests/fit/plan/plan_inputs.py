"""What the tests of plans begin with: a machine, a user's overrides and a model."""

from __future__ import annotations

from appliance.fit.machine.device import Device
from appliance.fit.plan.overrides import Overrides
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
