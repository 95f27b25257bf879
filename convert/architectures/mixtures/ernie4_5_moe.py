"""ERNIE 4.5 with a mixture of experts, after dense layers.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    SPELLINGS,
    attention_rules,
    feed_forward_rules,
    layer,
    norm_rules,
    outer_rules,
    with_fields,
)
from convert.architectures.dense.plain import ERNIE_DECODER
from convert.architectures.experts import routed_expert_rules
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.mixtures.routing import DENSE, MOE, SOFTMAX, needing, with_routing
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.gguf.header import u32

NAME = "ernie4_5-moe"
DECODER = replace(
    ERNIE_DECODER,
    name=NAME,
    fixed={"use_bias": False, "moe_layer_interval": 1},
    defaults={"rope_theta": 500000.0, "tie_word_embeddings": True},
)
_KEYS = {
    "num_experts": "moe_num_experts",
    "num_experts_per_tok": "moe_k",
    "n_shared_experts": "moe_num_shared_experts",
    "first_k_dense_replace": "moe_layer_start_index",
}

RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(),
    *needing(DENSE, feed_forward_rules()),
    *routed_expert_rules(MOE),
    layer(
        "exp_probs_b.bias",
        "mlp.moe_statics.e_score_correction_bias",
        ("one", "experts"),
        Rows.VECTOR,
        MOE,
    ),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = DECODER.read(config, tensor_names)
    last = config.values.get("moe_layer_end_index", -1)
    if last not in (-1, None, hyper.num_layers - 1):
        raise UnsupportedModel(
            f"{config.path} has moe_layer_end_index = {last}; llama.cpp's {NAME} has experts up to "
            "the last layer."
        )
    config = config.with_defaults({"moe_num_shared_experts": 2}).renamed(_KEYS)
    hyper = with_routing(NAME, hyper, config, default_dense=1, gating=SOFTMAX)
    return with_fields(
        replace(hyper, unused=(*hyper.unused, "model.mtp_*")),
        u32(f"{NAME}.interleave_moe_layer_step", 1),
        u32(f"{NAME}.expert_shared_feed_forward_length", hyper.sizes["shared_expert"]),
    )


ERNIE4_5_MOE = Family(
    name=NAME,
    models="ERNIE 4.5 with experts",
    architectures=("Ernie4_5_MoeForCausalLM",),
    model_types=("ernie4_5_moe",),
    rules=RULES,
    read_config=read_config,
    spellings=((r"\.mlp\.gate\.moe_statics\.", ".mlp.moe_statics."), *SPELLINGS),
)
