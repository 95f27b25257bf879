"""What the user has set of a plan. Knows no model and no machine."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.fit.plan.offload import GpuOverrides


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """The values that a plan must keep; None leaves the choice to the plan."""

    max_batch_rows: int  # tokens of a step
    slots: int | None = None
    ctx: int | None = None  # tokens
    ctx_is_most: bool = False  # a model that was trained for less has that
    kv_cells: int | None = None  # tokens
    quant: str | None = None
    kv_type: str | None = None
    ram: int | None = None  # bytes
    threads: int | None = None
    max_body_bytes: int | None = None
    max_draft_rows: int = 0  # of a step, beside one row per slot
    drafts_itself: bool = False  # where the file has heads for it
    adapter_bytes: int = 0  # of all adapters together
    moves_cells: bool = False  # to other positions
    gpu: GpuOverrides = field(default_factory=GpuOverrides)
