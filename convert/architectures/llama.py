"""Llama 2 and 3.x, and what was published in the same shape (SmolLM2, TinyLlama, ...).

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    layer,
    norm_rules,
    outer_rules,
    qkv_bias_rules,
    with_switches,
)
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.rope import llama3_divisors
from convert.config import Config

LLAMA_DECODER = Decoder(name="llama", rope_types=("default", "linear", "yarn", "dynamic", "llama3"))

RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(rotated=Rows.INTERLEAVE_HEADS),
    *qkv_bias_rules(rotated=Rows.INTERLEAVE_HEADS, needs="attention_bias"),
    layer("attn_output.bias", "self_attn.o_proj.bias", ("hidden",), needs="attention_bias"),
    *feed_forward_rules(),
    layer("ffn_gate.bias", "mlp.gate_proj.bias", ("feed_forward",), needs="mlp_bias"),
    layer("ffn_up.bias", "mlp.up_proj.bias", ("feed_forward",), needs="mlp_bias"),
    layer("ffn_down.bias", "mlp.down_proj.bias", ("hidden",), needs="mlp_bias"),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = LLAMA_DECODER.read(config, tensor_names)
    hyper = with_switches(hyper, config, {"attention_bias": False, "mlp_bias": False})
    return replace(
        hyper,
        computed=llama3_divisors(config.rope, hyper.head_dim),
    )


LLAMA = Family(
    name="llama",
    models="Llama 2 and 3.x, SmolLM2, TinyLlama, and others of that shape",
    architectures=("LlamaForCausalLM",),
    headless=("LlamaModel",),
    model_types=("llama",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
