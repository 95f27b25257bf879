"""Mixtral: Mistral with a mixture of experts,
which llama.cpp's llama graph computes too.

Knows no tokenizers.
"""

from __future__ import annotations

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    norm_rules,
    outer_rules,
)
from convert.architectures.experts import expert_rules, with_experts
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.config import Config

DECODER = Decoder(name="llama", slides=True, defaults={"rope_theta": 1000000.0})

RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(rotated=Rows.INTERLEAVE_HEADS),
    *expert_rules("block_sparse_moe", gate="w1", up="w3", down="w2"),
)

# transformers 5's own names, which adapters have
_NEWER_NAMES = (
    (r"\.mlp\.gate\.", ".block_sparse_moe.gate."),
    (r"\.mlp\.(experts\.\d+)\.gate_proj\.", r".block_sparse_moe.\1.w1."),
    (r"\.mlp\.(experts\.\d+)\.up_proj\.", r".block_sparse_moe.\1.w3."),
    (r"\.mlp\.(experts\.\d+)\.down_proj\.", r".block_sparse_moe.\1.w2."),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    return with_experts("llama", DECODER.read(config, tensor_names), config, "intermediate_size")


MIXTRAL = Family(
    name="llama",
    models="Mixtral",
    architectures=("MixtralForCausalLM",),
    model_types=("mixtral",),
    rules=RULES,
    read_config=read_config,
    spellings=(*_NEWER_NAMES, *SPELLINGS),
)
