"""gpt-oss: a mixture of experts with biases, windows in every other layer, and a place
for attention to look at nothing (sinks).

Knows no tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    bias_rules,
    layer,
    outer_rules,
    qkv_bias_rules,
)
from convert.architectures.experts import with_experts
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.rope import with_default_rope
from convert.architectures.windows import window_fields
from convert.config import Config
from convert.gguf.header import u32

DECODER = Decoder(
    name="gpt-oss",
    rope_types=("default", "yarn"),
    knows_windows=True,
    default_window=128,
    fixed={
        "attention_bias": True,
        "tie_word_embeddings": False,
        "swiglu_alpha": 1.702,
        "swiglu_limit": 7.0,
    },
    defaults={
        "head_dim": 64,
        "rope_theta": 150000.0,
        "tie_word_embeddings": False,
        "sliding_window": 128,
    },
)

_EXPERTS, _FUSED = "mlp.experts", ("experts", "hidden", "gate_and_up")
_WIDE = ("experts", "expert", "hidden")
RULES = (
    *outer_rules(),
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
    layer("post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",)),
    *attention_rules(),
    *qkv_bias_rules(),
    *bias_rules(
        ("attn_output", "self_attn.o_proj", "hidden"), ("ffn_gate_inp", "mlp.router", "experts")
    ),
    layer("attn_sinks.weight", "self_attn.sinks", ("heads",)),
    layer("ffn_gate_inp.weight", "mlp.router.weight", ("experts", "hidden")),
    # gates and ups alternate
    *(
        layer(
            f"ffn_{part}_exps.weight",
            f"{_EXPERTS}.gate_up_proj",
            _FUSED,
            Rows.TRANSPOSE,
            columns=f"{part} columns",
            becomes=_WIDE,
        )
        for part in ("gate", "up")
    ),
    *(
        layer(
            f"ffn_{part}_exps.bias",
            f"{_EXPERTS}.gate_up_proj_bias",
            ("experts", "gate_and_up"),
            columns=f"{part} columns",
            becomes=("experts", "expert"),
        )
        for part in ("gate", "up")
    ),
    layer(
        "ffn_down_exps.weight",
        f"{_EXPERTS}.down_proj",
        ("experts", "expert", "hidden"),
        Rows.TRANSPOSE,
    ),
    layer("ffn_down_exps.bias", f"{_EXPERTS}.down_proj_bias", ("experts", "hidden")),
)

_ROUNDED = (
    "The rotation's borders between scaled and unscaled frequencies (yarn with truncate = false) "
    "are rounded to whole numbers by llama.cpp, and by this file's: its answers differ slightly "
    "from those of transformers, which is right."
)

# what transformers' class takes where config.json has neither rope_parameters nor rope_scaling
_DEFAULT_ROPE = {
    "rope_type": "yarn",
    "factor": 32.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config, notes = _with_rounded_borders(with_default_rope(config, _DEFAULT_ROPE))
    hyper = DECODER.read(config, tensor_names)
    hyper = with_experts(DECODER.name, hyper, config, "intermediate_size")
    size = hyper.sizes["expert"]
    columns = np.arange(2 * size).reshape(-1, 2)
    window = config.with_defaults({"sliding_window": DECODER.default_window})
    return replace(
        hyper,
        sizes={**hyper.sizes, "heads": hyper.num_heads, "gate_and_up": 2 * size},
        orders={
            "gate columns": columns[:, 0],
            "up columns": columns[:, 1],
        },
        fields=(
            *hyper.fields,
            u32(f"{DECODER.name}.expert_feed_forward_length", size),
            *window_fields(DECODER.name, window, hyper.num_layers, usual_period=2),
        ),
        notes=(*hyper.notes, *notes),
    )


def _with_rounded_borders(config: Config) -> tuple[Config, tuple[str, ...]]:
    values: dict[str, Any] = dict(config.values)
    found = False
    for key in ("rope_parameters", "rope_scaling"):
        section = values.get(key)
        if isinstance(section, Mapping) and not section.get("truncate", True):
            values[key] = {name: item for name, item in section.items() if name != "truncate"}
            found = True
    return (Config(config.path, values), (_ROUNDED,)) if found else (config, ())


GPT_OSS = Family(
    name="gpt-oss",
    models="gpt-oss",
    architectures=("GptOssForCausalLM",),
    model_types=("gpt_oss",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
