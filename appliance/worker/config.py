"""All a worker needs to load its model, decided by the parent. Knows no settings and no plan."""

from __future__ import annotations

from appliance.fit.plan.offload import Offload
from appliance.protocol.record import Record


class DraftConfig(Record, frozen=True):
    """A model that drafts: sizes of its context in tokens.

    `is_required`: rather no service than one without it.
    """

    model_path: str
    kv_cells: int
    max_rows: int
    is_required: bool = True


class WorkerConfig(Record, frozen=True, kw_only=True):
    """All a worker needs to load its model; decided by the parent, never by the worker.

    Sizes are in tokens (`ctx`, `kv_cells`, `max_waiting_tokens`,
    `resident_prefix_cells`), rows of one decode (`max_batch_rows`) and milliseconds
    (`max_stall_ms`). `kv_type` is a ggml type name such as `f16` or `q8_0`, or two as
    `K/V`. `max_prefix_slowdown`: see `KeepPolicy`. `batch_threads` compute several rows
    at once (None: as many as one), `ubatch_rows` of them together (None: all);
    quantized KV needs `flash_attention`. `max_row_cells`: see `Limits`.
    `max_draft_rows` of a step may be drafted tokens; `prompt_lookup` drafts from text
    that is there already. `offload` says what goes to GPUs. With `embeds` the model
    makes vectors of whole inputs of up to `ctx` tokens, and writes no text: then slots,
    cells and prefixes mean nothing.
    """

    model_path: str
    ctx: int
    slots: int
    kv_cells: int
    kv_type: str
    threads: int
    max_batch_rows: int
    max_waiting_tokens: int
    max_stall_ms: int
    resident_prefix_cells: int
    prefix_host_bytes: int
    prefix_disk_bytes: int
    prefix_ttl_s: float
    use_extra_bufts: bool
    prefix_dir: str = ""
    step_times_dir: str = ""
    max_prefix_slowdown: float | None = None
    log_level: str = "info"
    batch_threads: int | None = None
    ubatch_rows: int | None = None
    flash_attention: bool = False
    use_mmap: bool = True
    max_row_cells: int | None = None
    max_draft_rows: int = 0
    prompt_lookup: bool = False
    draft: DraftConfig | None = None
    offload: Offload = Offload()
    embeds: bool = False
