"""What the gated delta nets of Qwen3-Next and Qwen3.5 have in common: layers with a state
between layers with attention, whose queries bring a gate.

Knows no family.

Source: modeling_qwen3_next.py and modeling_qwen3_5.py of transformers; llama.cpp's
qwen3next.cpp and qwen35.cpp, which take one head size for the keys and values of a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from convert.architectures.decoder import SPELLINGS, Decoder, layer, outer_rules, with_fields
from convert.architectures.drafts import DRAFT_PREFIX, drafting
from convert.architectures.family import Hyperparameters, Rows, TensorRule
from convert.architectures.layer_types import every, layer_features, layer_types
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import boolean_array, u32

LINEAR, FULL = "linear_attention", "full_attention"
DEFAULTS: Mapping[str, Any] = {
    "head_dim": 256,
    "partial_rotary_factor": 0.25,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}

DELTA_NET_SPELLINGS = ((r"^model\.mtp\.", DRAFT_PREFIX), *SPELLINGS)
ATTENTION_RULES: tuple[TensorRule, ...] = (
    *outer_rules(norm=Rows.ONE_PLUS),
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",), Rows.ONE_PLUS),
    layer(
        "post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",), Rows.ONE_PLUS
    ),
    # of each head its query, then its gate
    layer("attn_q.weight", "self_attn.q_proj.weight", ("query_gate", "hidden"), needs=FULL),
    layer("attn_k.weight", "self_attn.k_proj.weight", ("key", "hidden"), needs=FULL),
    layer("attn_v.weight", "self_attn.v_proj.weight", ("key", "hidden"), needs=FULL),
    layer("attn_output.weight", "self_attn.o_proj.weight", ("hidden", "query"), needs=FULL),
    layer("attn_q_norm.weight", "self_attn.q_norm.weight", ("head",), Rows.ONE_PLUS, FULL),
    layer("attn_k_norm.weight", "self_attn.k_norm.weight", ("head",), Rows.ONE_PLUS, FULL),
)


@dataclass(frozen=True, kw_only=True)
class StateSizes:
    """Of the layers with a state."""

    key_heads: int
    value_heads: int
    head: int  # size, of keys and values
    kernel: int

    @property
    def keys(self) -> int:
        return self.key_heads * self.head

    @property
    def values(self) -> int:
        return self.value_heads * self.head

    @property
    def values_per_key(self) -> int:
        return self.value_heads // self.key_heads


def read_state_sizes(config: Config) -> StateSizes:
    """Raises `UnsupportedModel` for what llama.cpp has no words for."""
    key, value = config.integer("linear_key_head_dim"), config.integer("linear_value_head_dim")
    if key != value:
        raise UnsupportedModel(
            f"{config.path} has linear_key_head_dim = {key} and linear_value_head_dim = {value}; "
            "llama.cpp only supports one size for both."
        )
    key_heads = config.integer("linear_num_key_heads")
    value_heads = config.integer("linear_num_value_heads")
    if value_heads % key_heads:
        raise DamagedCheckpoint(
            f"{config.path}: {value_heads} value heads cannot be shared out among {key_heads} key "
            "heads."
        )
    return StateSizes(
        key_heads=key_heads,
        value_heads=value_heads,
        head=key,
        kernel=config.integer("linear_conv_kernel_dim"),
    )


def read_delta_net(
    decoder: Decoder, config: Config, tensor_names: frozenset[str]
) -> tuple[Hyperparameters, StateSizes]:
    """The hyper-parameters without any order of rows. Raises as `Decoder.read` does."""
    config = config.with_defaults(decoder.defaults)
    hyper, state = decoder.read(config, tensor_names), read_state_sizes(config)
    interval = config.integer("full_attention_interval", 4)
    num_drafting = _num_draft_layers(config, tensor_names)
    kinds = layer_types(
        config,
        hyper.num_layers,
        (LINEAR, FULL),
        every(interval, hyper.num_layers, kind=FULL, others=LINEAR),
    )
    sizes = {
        **hyper.sizes,
        "query_gate": 2 * hyper.sizes["query"],
        "hidden_twice": 2 * hyper.sizes["hidden"],
        "state_head": state.head,
        "state_value_heads": state.value_heads,
        "state_values": state.values,
        "state_mixed": 2 * state.keys + state.values,
        "state_kernel": state.kernel,
    }
    name = decoder.name
    recurrent = [*(kind == LINEAR for kind in kinds), *[False] * num_drafting]
    if num_drafting:
        hyper = with_fields(
            hyper,
            u32(f"{name}.block_count", len(recurrent)),
            u32(f"{name}.nextn_predict_layers", num_drafting),
        )
    return replace(
        hyper,
        num_layers=len(recurrent),
        num_draft_layers=num_drafting,
        sizes=sizes,
        layer_features=layer_features(kinds),
        fields=(
            *hyper.fields,
            u32(f"{name}.ssm.conv_kernel", state.kernel),
            u32(f"{name}.ssm.state_size", state.head),
            u32(f"{name}.ssm.group_count", state.key_heads),
            u32(f"{name}.ssm.time_step_rank", state.value_heads),
            u32(f"{name}.ssm.inner_size", state.values),
            boolean_array(f"{name}.attention.recurrent_layers", recurrent),
        ),
    ), state


def _num_draft_layers(config: Config, tensor_names: frozenset[str]) -> int:
    """Raises `UnsupportedModel` for more than llama.cpp computes."""
    if not any(name.startswith(DRAFT_PREFIX) for name in tensor_names):
        return 0
    count = config.integer("mtp_num_hidden_layers", 1)  # Qwen3-Next's config does not say
    if count != 1:
        raise UnsupportedModel(
            f"{config.path} has mtp_num_hidden_layers = {count}; llama.cpp only computes one layer "
            "that drafts. Convert it without --mtp."
        )
    return count


def state_layer(
    target: str,
    source: str,
    shape: tuple[str, ...],
    rows: Rows = Rows.KEEP,
    *,
    order: str | None = None,
    columns: str | None = None,
    becomes: tuple[str, ...] | None = None,
) -> TensorRule:
    """A rule for a tensor of every layer that has a state."""
    return layer(
        target,
        "linear_attn." + source,
        shape,
        rows,
        LINEAR,
        order=order,
        columns=columns,
        becomes=becomes,
    )


def draft_rules(feed_forward: tuple[TensorRule, ...]) -> tuple[TensorRule, ...]:
    """Of the layer that predicts one token more: a layer with attention, in front of which
    a token and what the others made of the one before are joined.

    Source: conversion/qwen.py of llama.cpp (`_QwenMtpMixin`).
    """
    layers = [rule for rule in (*ATTENTION_RULES, *feed_forward) if rule.is_per_layer]
    block = [
        replace(
            rule,
            source=rule.source.replace("model.layers.{layer}.", f"{DRAFT_PREFIX}layers.0."),
            needs=None if rule.needs in (None, FULL) else drafting(rule.needs),
        )
        for rule in layers
    ]
    joined = (
        ("eh_proj", "fc", ("hidden", "hidden_twice"), Rows.KEEP),
        ("enorm", "pre_fc_norm_embedding", ("hidden",), Rows.ONE_PLUS),
        ("hnorm", "pre_fc_norm_hidden", ("hidden",), Rows.ONE_PLUS),
        ("shared_head_norm", "norm", ("hidden",), Rows.ONE_PLUS),
    )
    return (
        *block,
        *(
            TensorRule(
                target=f"blk.{{layer}}.nextn.{target}.weight",
                source=f"{DRAFT_PREFIX}{source}.weight",
                shape=shape,
                rows=rows,
            )
            for target, source, shape, rows in joined
        ),
    )
