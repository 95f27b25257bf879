"""Qwen 1.5 and 2 with a mixture of experts, beside
which one shared expert works on every token.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    layer,
    norm_rules,
    outer_rules,
    qkv_bias_rules,
)
from convert.architectures.experts import expert_rules, with_experts
from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.config import Config
from convert.gguf.header import u32

DECODER = Decoder(
    name="qwen2moe",
    has_free_head_dim=False,
    default_window=4096,
    fixed={"norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": []},
)

RULES = (
    *outer_rules(),
    # llama.cpp's qwen2moe wants an output matrix of its own, even where it equals the
    # embedding.
    TensorRule(
        target="output.weight",
        source="model.embed_tokens.weight",
        shape=("vocab", "hidden"),
        needs="shared output",
    ),
    *norm_rules(),
    *attention_rules(),
    *qkv_bias_rules(needs="qkv_bias"),
    *expert_rules("mlp", gate="gate_proj", up="up_proj", down="down_proj"),
    layer(
        "ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight", ("one", "hidden"), Rows.VECTOR
    ),
    layer(
        "ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight", ("shared_expert", "hidden")
    ),
    layer("ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight", ("shared_expert", "hidden")),
    layer(
        "ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight", ("hidden", "shared_expert")
    ),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = with_experts(
        "qwen2moe", DECODER.read(config, tensor_names), config, "moe_intermediate_size"
    )
    shared_expert = config.integer("shared_expert_intermediate_size")
    return replace(
        hyper,
        sizes={**hyper.sizes, "shared_expert": shared_expert},
        features=hyper.features | ({"qkv_bias"} if config.flag("qkv_bias", True) else set()),
        fields=(
            *hyper.fields,
            u32("qwen2moe.expert_feed_forward_length", hyper.sizes["expert"]),
            u32("qwen2moe.expert_shared_feed_forward_length", shared_expert),
        ),
    )


QWEN2_MOE = Family(
    name="qwen2moe",
    models="Qwen 1.5 and 2 with experts",
    architectures=("Qwen2MoeForCausalLM",),
    model_types=("qwen2_moe",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
