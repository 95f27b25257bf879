"""What a loaded model is, as it is served. Knows no worker."""

from __future__ import annotations

import msgspec

from appliance.protocol.record import Record


class ModelInfo(Record, frozen=True, kw_only=True):
    """What the worker loaded, as it is served.

    `gpu_layers` are on GPUs; `gpu_bytes` says what llama.cpp has allocated on each, by
    name. `speculation` names the drafters, or says why there are none.
    """

    name: str
    quantization: str
    num_params: int
    num_vocab: int
    ctx: int
    train_ctx: int
    slots: int
    kv_cells: int
    kv_type: str
    has_chat_template: bool
    system_info: str
    gpu_layers: int = 0
    gpu_bytes: dict[str, int] = msgspec.field(default_factory=dict)
    speculation: str = "off"
    pooling: str = ""  # of an embedding model: mean, cls, last or rank
    num_embedding_values: int = 0
