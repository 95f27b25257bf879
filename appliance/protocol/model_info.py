"""What a loaded model is, as it is served. Knows no worker."""

from __future__ import annotations

import msgspec

from appliance.protocol.record import Record


class ModelInfo(Record, frozen=True, kw_only=True):
    """What the worker loaded, as it is served."""

    name: str  # as its file says, else the file's own
    quantization: str
    num_params: int
    num_vocab: int
    ctx: int  # tokens; the longest request
    train_ctx: int  # tokens; what the model was trained for
    slots: int
    kv_cells: int  # 0 for an embedding model
    max_waiting_tokens: int = 0  # of the prompts that may wait for a slot; 0: unknown
    kv_type: str
    has_chat_template: bool
    # how functions are shown to it: by its template (native), in messages (generic), not (none)
    tool_use: str = "none"
    system_info: str  # llama.cpp's, of the CPU features it uses
    gpu_layers: int = 0  # that are on GPUs
    # allocated by llama.cpp on each GPU, by name
    gpu_bytes: dict[str, int] = msgspec.field(default_factory=dict)
    # no answer's text depends on what is computed beside it, cached or drafted
    exact_rows: bool = False
    speculation: str = "off"  # the drafters by name, or why there are none
    pooling: str = ""  # of an embedding model: mean, cls, last or rank
    num_embedding_values: int = 0  # of each vector
    # of all that an answer follows from besides its request; empty: not known
    fingerprint: str = ""
    # how the chat template writes the present time, in the words of `strftime`; None: in
    # ways that nobody can tell
    clock_formats: list[str] | None = msgspec.field(default_factory=list)
