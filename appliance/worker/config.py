"""All that a worker needs to load its model. Knows no settings and no plan."""

from __future__ import annotations

import math

import msgspec

from appliance.fit.plan.offload import Offload
from appliance.protocol.adapters import AdapterFile
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.file_range import FileRange
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse
from appliance.protocol.measured_node import NodeMemory
from appliance.protocol.record import Record


class DraftConfig(Record, frozen=True):
    """A model that drafts."""

    model_path: str
    kv_cells: int
    max_rows: int  # of one decode
    is_required: bool = True  # rather no service than one without it
    is_own: bool = False  # the served model's own heads, instead of another model


class WorkerConfig(Record, frozen=True, kw_only=True):
    """Decided by the parent, never by the worker."""

    model_path: str
    ctx: int  # tokens; the longest request (prompt and answer), or the longest input
    sizes: ContextSizes  # of an embedding model, only what concerns threads, rows and attention
    max_waiting_tokens: int  # of all prompts that wait
    max_stall_ms: int  # how long running answers may wait for somebody else's prompt
    resident_prefix_cells: int  # that may stay in use by prefixes of no running request
    prefix_host_bytes: int  # of saved prefixes in host memory
    prefix_disk_bytes: int  # of saved prefixes on disk
    prefix_disk_ttl_s: float = math.inf  # since one was written
    prefix_ttl_s: float  # how long an unused prefix is kept
    use_extra_bufts: bool  # weights are repacked for this CPU
    prefix_dir: str = ""
    step_times_dir: str = ""  # empty: what steps cost is not kept between runs
    max_prefix_slowdown: float | None = None  # see `appliance.engine` on `KeepPolicy`
    log_level: str = "info"
    chat_template: str = ""  # its source, instead of the model's own
    tools: str = "auto"  # how functions are shown: see `appliance.text.chats`
    use_mmap: bool = True
    tables: tuple[FileRange, ...] = ()  # parts of the model's file that are read as they are used
    max_row_cells: int | None = None  # see `appliance.engine` on `Limits`
    prompt_lookup: bool = False  # drafts from text that is there already
    repeatable: bool = True  # requests with a seed, or greedy ones, are to repeat their answers
    exact: bool = False  # what requests mean that do not say whether they are to be exact
    cache_reuse: int = 0  # equal tokens in a row whose cells may be moved; 0: none are
    draft: DraftConfig | None = None  # drafts by another model
    adapters: list[AdapterFile] = msgspec.field(default_factory=list)
    adapter_turn_ms: int | None = None  # see `appliance.engine` on `Limits`
    offload: Offload = Offload()  # what goes to GPUs
    kernels: KernelUse = NO_KERNELS
    # "auto": as far as the kernel can; "on": rather no service than a gap; "off"
    confine: str = "auto"
    memory: NodeMemory = NodeMemory()  # as it was planned; told to whoever plans a fleet
    binds_threads: bool = True  # each to a core of its own, the first ones
    # The model makes vectors of whole inputs and writes no text: slots, cells and
    # prefixes mean nothing then.
    embeds: bool = False
    log_format: str = "text"
