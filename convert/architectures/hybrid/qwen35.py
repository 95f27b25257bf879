"""Qwen 3.5, dense and with a mixture of experts.

Knows no tokenizers.

llama.cpp repeats keys over values as K0, K1, ..., K0, K1, ..., transformers as K0, K0, ...,
K1, K1, ...: hence the values' heads, and all that belongs to them, change their order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.architectures.arrangement import Order
from convert.architectures.decoder import Decoder, feed_forward_rules
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
from convert.errors import DamagedCheckpoint
from convert.gguf.header import i32_array

MROPE_SECTIONS = [11, 11, 10]  # of transformers where a config leaves them out

DECODER = Decoder(
    name="qwen35",
    rope_types=("default", "yarn"),
    rotates_part=True,
    fixed={"attention_bias": False},
    defaults=DEFAULTS,
)
# with experts, `intermediate_size` plays no part
MOE_DECODER = replace(DECODER, name="qwen35moe", defaults={**DEFAULTS, "intermediate_size": 512})

STATE_RULES = (
    state_layer("attn_qkv.weight", "in_proj_qkv.weight", ("state_mixed", "hidden"), order="mixed"),
    state_layer("attn_gate.weight", "in_proj_z.weight", ("state_values", "hidden"), order="values"),
    state_layer(
        "ssm_beta.weight", "in_proj_b.weight", ("state_value_heads", "hidden"), order="value heads"
    ),
    state_layer(
        "ssm_alpha.weight", "in_proj_a.weight", ("state_value_heads", "hidden"), order="value heads"
    ),
    state_layer(
        "ssm_conv1d.weight",
        "conv1d.weight",
        ("state_mixed", "one", "state_kernel"),
        order="mixed",
        becomes=("state_mixed", "state_kernel"),
    ),
    state_layer("ssm_dt.bias", "dt_bias", ("state_value_heads",), order="value heads"),
    state_layer("ssm_a", "A_log", ("state_value_heads",), Rows.NEGATED_EXP, order="value heads"),
    state_layer("ssm_norm.weight", "norm.weight", ("state_head",)),
    state_layer("ssm_out.weight", "out_proj.weight", ("hidden", "state_values"), columns="values"),
)


def read_dense(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    return _read(DECODER, config, tensor_names)


def read_moe(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = _read(MOE_DECODER, config, tensor_names)
    hyper = with_experts(MOE_DECODER.name, hyper, config, "moe_intermediate_size")
    return with_shared_expert(MOE_DECODER.name, hyper, config, tensor_names)


def _read(decoder: Decoder, config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper, state = read_delta_net(decoder, config, tensor_names)
    sections = config.rope.values.get("mrope_section", MROPE_SECTIONS)
    if not isinstance(sections, list) or len(sections) > 4:
        raise DamagedCheckpoint(f"{config.path} has mrope_section = {sections!r}.")
    sections = [*sections, *[0] * (4 - len(sections))]
    return replace(
        hyper,
        orders=_orders(state),
        fields=(*hyper.fields, i32_array(f"{decoder.name}.rope.dimension_sections", sections)),
    )


def _orders(state: StateSizes) -> dict[str, Order]:
    heads = np.arange(state.value_heads).reshape(state.key_heads, state.values_per_key).T.ravel()
    values = (heads[:, None] * state.head + np.arange(state.head)).ravel()
    before = np.arange(2 * state.keys)
    return {
        "value heads": heads,
        "values": values,
        "mixed": np.concatenate([before, 2 * state.keys + values]),
    }


QWEN35 = Family(
    name="qwen35",
    models="Qwen 3.5",
    architectures=("Qwen3_5ForCausalLM",),
    model_types=("qwen3_5_text",),
    rules=(*ATTENTION_RULES, *STATE_RULES, *feed_forward_rules()),
    draft_rules=draft_rules(feed_forward_rules()),
    read_config=read_dense,
    spellings=DELTA_NET_SPELLINGS,
)
QWEN35_MOE = Family(
    name="qwen35moe",
    models="Qwen 3.5 with experts",
    architectures=("Qwen3_5MoeForCausalLM",),
    model_types=("qwen3_5_moe_text",),
    rules=(*ATTENTION_RULES, *STATE_RULES, *fused_expert_rules(), *shared_expert_rules()),
    draft_rules=draft_rules((*fused_expert_rules(), *shared_expert_rules())),
    read_config=read_moe,
    spellings=DELTA_NET_SPELLINGS,
)
