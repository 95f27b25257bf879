"""Qwen3-Next: gated delta nets and attention, with a mixture of experts.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.architectures.arrangement import Order
from convert.architectures.decoder import Decoder
from convert.architectures.experts import (
    fused_expert_rules,
    shared_expert_rules,
    with_experts,
    with_shared_expert,
)
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.hybrid.delta_net import (
    ATTENTION_RULES,
    DEFAULTS,
    DELTA_NET_SPELLINGS,
    StateSizes,
    draft_rules,
    read_delta_net,
    state_layer,
)
from convert.config import Config

DECODER = Decoder(
    name="qwen3next",
    rotates_part=True,
    fixed={
        "attention_bias": False,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
    defaults=DEFAULTS,
)

STATE_RULES = (
    state_layer("attn_qkv.weight", "in_proj_qkvz.weight", ("state_fused", "hidden"), order="mixed"),
    state_layer("attn_gate.weight", "in_proj_qkvz.weight", ("state_fused", "hidden"), order="gate"),
    state_layer("ssm_ba.weight", "in_proj_ba.weight", ("state_ba", "hidden")),
    state_layer(
        "ssm_conv1d.weight",
        "conv1d.weight",
        ("state_mixed", "one", "state_kernel"),
        becomes=("state_mixed", "state_kernel"),
    ),
    state_layer("ssm_dt.bias", "dt_bias", ("state_value_heads",)),
    state_layer("ssm_a", "A_log", ("state_value_heads",), Rows.NEGATED_EXP),
    state_layer("ssm_norm.weight", "norm.weight", ("state_head",)),
    state_layer("ssm_out.weight", "out_proj.weight", ("hidden", "state_values")),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper, state = read_delta_net(DECODER, config, tensor_names)
    hyper = replace(
        hyper,
        orders=_orders(state),
        sizes={
            **hyper.sizes,
            "state_fused": 2 * state.keys + 2 * state.values,
            "state_ba": 2 * state.value_heads,
        },
    )
    hyper = with_experts(DECODER.name, hyper, config, "moe_intermediate_size")
    return with_shared_expert(DECODER.name, hyper, config, tensor_names)


def _orders(state: StateSizes) -> dict[str, Order]:
    """Of each key head the fused matrix has its query, key, values and gates."""
    values = state.values_per_key * state.head
    rows = np.arange(2 * (state.keys + state.values)).reshape(state.key_heads, -1)
    query, key, value, gate = np.split(rows, np.cumsum([state.head, state.head, values]), axis=1)
    return {
        "mixed": np.concatenate([query.ravel(), key.ravel(), value.ravel()]),
        "gate": gate.ravel(),
    }


QWEN3_NEXT = Family(
    name="qwen3next",
    models="Qwen3-Next",
    architectures=("Qwen3NextForCausalLM",),
    model_types=("qwen3_next",),
    rules=(*ATTENTION_RULES, *STATE_RULES, *fused_expert_rules(), *shared_expert_rules()),
    draft_rules=draft_rules((*fused_expert_rules(), *shared_expert_rules())),
    read_config=read_config,
    spellings=DELTA_NET_SPELLINGS,
)
