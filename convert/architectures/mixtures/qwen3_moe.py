"""Qwen 3 with a mixture of experts. Knows no tokenizers."""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    norm_rules,
    outer_rules,
    qk_norm_rules,
)
from convert.architectures.experts import (
    expert_rules,
    turned_expert_rules,
    with_experts,
    with_storage,
)
from convert.architectures.family import Family, Hyperparameters
from convert.config import Config
from convert.gguf.header import u32

DECODER = Decoder(
    name="qwen3moe",
    default_window=4096,
    fixed={
        "attention_bias": False,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
    defaults={"norm_topk_prob": False},
)

_OTHERS = (*outer_rules(), *norm_rules(), *attention_rules(), *qk_norm_rules())
RULES = (*_OTHERS, *expert_rules("mlp", gate="gate_proj", up="up_proj", down="down_proj"))


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = with_experts(
        "qwen3moe", DECODER.read(config, tensor_names), config, "moe_intermediate_size"
    )
    expert_size = u32("qwen3moe.expert_feed_forward_length", hyper.sizes["expert"])
    return replace(hyper, fields=(*hyper.fields, expert_size))


def read_seeing(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    # whatever the config says, its router divides by the sum
    config = Config(config.path, {**config.values, "norm_topk_prob": True})
    config = config.with_defaults({"rope_theta": 500000.0})
    return with_storage(read_config(config, tensor_names), tensor_names)


QWEN3_MOE = Family(
    name="qwen3moe",
    models="Qwen 3 with experts",
    architectures=("Qwen3MoeForCausalLM",),
    model_types=("qwen3_moe",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
# the part that writes of Qwen3-VL
QWEN3_VL_MOE = replace(
    QWEN3_MOE,
    models="Qwen3-VL with experts, the part that writes",
    architectures=(),
    model_types=("qwen3_vl_moe_text",),
    rules=(*_OTHERS, *turned_expert_rules()),
    read_config=read_seeing,
)
