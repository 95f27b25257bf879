"""What the user has set of a plan. Knows no model and no machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.fit.plan.offload import GpuOverrides


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """None leaves the choice to the plan. Sizes are in tokens, `ram` and bodies in bytes."""

    max_batch_rows: int
    slots: int | None = None
    ctx: int | None = None
    kv_cells: int | None = None
    quant: str | None = None
    kv_type: str | None = None
    ram: int | None = None
    threads: int | None = None
    max_body_bytes: int | None = None
    max_draft_rows: int = 0
    gpu: GpuOverrides = field(default_factory=GpuOverrides)
