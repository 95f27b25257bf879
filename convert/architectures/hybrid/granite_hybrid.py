"""Granite 4: states (Mamba 2) between layers with attention, each followed by a dense
network or by a mixture of experts beside one.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.architectures.arrangement import Order
from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    layer,
    norm_rules,
    outer_rules,
    with_fields,
)
from convert.architectures.dense.granite import halves, multiplier_fields
from convert.architectures.experts import with_experts
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.layer_types import layer_types
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import boolean, i32_array, u32

STATE, FULL = "mamba", "attention"
# transformers' newer words
_WORDS = {"linear_attention": STATE, "full_attention": FULL}

DECODER = Decoder(
    name="granitehybrid",
    rope_types=("default",),
    fixed={
        "attention_bias": False,
        "mamba_proj_bias": False,
        "mamba_conv_bias": True,
    },
)

_DENSE, _MOE = "dense feed-forward", "experts"
_ATTENTION = "self_attn."
RULES = (
    *outer_rules(),
    *norm_rules(),
    # without a rotation there is no order within heads
    layer("attn_q.weight", f"{_ATTENTION}q_proj.weight", ("query", "hidden"), needs=FULL),
    layer("attn_k.weight", f"{_ATTENTION}k_proj.weight", ("key", "hidden"), needs=FULL),
    layer("attn_v.weight", f"{_ATTENTION}v_proj.weight", ("key", "hidden"), needs=FULL),
    layer("attn_output.weight", f"{_ATTENTION}o_proj.weight", ("hidden", "query"), needs=FULL),
    layer("ssm_in.weight", "mamba.in_proj.weight", ("state_in", "hidden"), needs=STATE),
    layer(
        "ssm_conv1d.weight",
        "mamba.conv1d.weight",
        ("state_mixed", "one", "kernel"),
        needs=STATE,
        becomes=("state_mixed", "kernel"),
    ),
    layer("ssm_conv1d.bias", "mamba.conv1d.bias", ("state_mixed",), needs=STATE),
    layer("ssm_dt.bias", "mamba.dt_bias", ("state_heads",), needs=STATE),
    layer(
        "ssm_a",
        "mamba.A_log",
        ("state_heads",),
        Rows.NEGATED_EXP,
        STATE,
        becomes=("state_heads", "one"),
    ),
    layer("ssm_d", "mamba.D", ("state_heads",), needs=STATE, becomes=("state_heads", "one")),
    layer(
        "ssm_norm.weight",
        "mamba.norm.weight",
        ("state_values",),
        needs=STATE,
        becomes=("groups", "group_values"),
    ),
    layer("ssm_out.weight", "mamba.out_proj.weight", ("hidden", "state_values"), needs=STATE),
    *halves(
        "ffn_gate.weight",
        "ffn_up.weight",
        "shared_mlp.input_linear.weight",
        ("shared_gate_and_up", "hidden"),
        "shared_expert",
        _DENSE,
    ),
    layer(
        "ffn_down.weight",
        "shared_mlp.output_linear.weight",
        ("hidden", "shared_expert"),
        needs=_DENSE,
    ),
    *halves(
        "ffn_gate_shexp.weight",
        "ffn_up_shexp.weight",
        "shared_mlp.input_linear.weight",
        ("shared_gate_and_up", "hidden"),
        "shared_expert",
        _MOE,
    ),
    layer(
        "ffn_down_shexp.weight",
        "shared_mlp.output_linear.weight",
        ("hidden", "shared_expert"),
        needs=_MOE,
    ),
    layer(
        "ffn_gate_inp.weight",
        "block_sparse_moe.router.layer.weight",
        ("experts", "hidden"),
        needs=_MOE,
    ),
    *halves(
        "ffn_gate_exps.weight",
        "ffn_up_exps.weight",
        "block_sparse_moe.input_linear.weight",
        ("experts", "gate_and_up", "hidden"),
        "expert",
        _MOE,
    ),
    layer(
        "ffn_down_exps.weight",
        "block_sparse_moe.output_linear.weight",
        ("experts", "hidden", "expert"),
        needs=_MOE,
    ),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.renamed({"layer_types": "layers_block_type"})
    num_experts = config.values.get("num_local_experts")
    shared = config.integer("shared_intermediate_size")
    if not num_experts:  # then the network that is shared elsewhere is the only one
        config = Config(config.path, {**config.values, "intermediate_size": shared})
    hyper = DECODER.read(config, tensor_names)
    kinds = _kinds(config, hyper.num_layers)
    heads = [hyper.num_kv_heads if kind == FULL else 0 for kind in kinds]
    state = _state_sizes(config, hyper.sizes["hidden"])
    hyper = replace(
        hyper,
        num_kv_heads=heads[0],
        layer_features=tuple(frozenset({kind}) for kind in kinds),
        features=hyper.features | {_MOE if num_experts else _DENSE},
        sizes={
            **hyper.sizes,
            **state,
            "shared_expert": shared,
            "shared_gate_and_up": 2 * shared,
        },
        orders=_shared_orders(shared),
    )
    name = DECODER.name
    if num_experts:
        hyper = with_experts(name, hyper, config, "intermediate_size")
        hyper = replace(
            hyper,
            sizes={**hyper.sizes, "gate_and_up": 2 * hyper.sizes["expert"]},
            orders={**hyper.orders, **_expert_orders(hyper)},
            fields=(*hyper.fields, u32(f"{name}.expert_shared_feed_forward_length", shared)),
        )
    return with_fields(
        hyper,
        *multiplier_fields(name, config),
        i32_array(f"{name}.attention.head_count_kv", heads),
        boolean(f"{name}.rope.scaling.finetuned", config.values.get(_POSITIONS) == "rope"),
        u32(f"{name}.ssm.conv_kernel", state["kernel"]),
        u32(f"{name}.ssm.inner_size", state["state_values"]),
        u32(f"{name}.ssm.state_size", state["state"]),
        u32(f"{name}.ssm.time_step_rank", state["state_heads"]),
        u32(f"{name}.ssm.group_count", state["groups"]),
    )


_POSITIONS = "position_embedding_type"


def _kinds(config: Config, num_layers: int) -> list[str]:
    known = (STATE, FULL, *_WORDS)
    kinds = layer_types(config, num_layers, known, [STATE] * num_layers)
    kinds = [_WORDS.get(kind, kind) for kind in kinds]
    if config.values.get(_POSITIONS) == "rope" and STATE in kinds:
        raise UnsupportedModel(
            f"{config.path} has {_POSITIONS} = rope and layers with a state, which llama.cpp's "
            "granitehybrid does not rotate."
        )
    return kinds


def _state_sizes(config: Config, hidden: int) -> dict[str, int]:
    heads = config.integer("mamba_n_heads", 128)
    inner = config.integer("mamba_expand", 2) * hidden
    groups, state = config.integer("mamba_n_groups", 1), config.integer("mamba_d_state", 256)
    if inner % heads or inner % groups:
        raise DamagedCheckpoint(
            f"{config.path}: an inner size of {inner} cannot be shared out among {heads} heads "
            f"and {groups} groups."
        )
    mixed = inner + 2 * groups * state
    return {
        "state": state,
        "state_heads": heads,
        "state_values": inner,
        "state_mixed": mixed,
        "state_in": inner + mixed + heads,
        "groups": groups,
        "group_values": inner // groups,
        "kernel": config.integer("mamba_d_conv", 4),
    }


def _expert_orders(hyper: Hyperparameters) -> dict[str, Order]:
    experts, size = hyper.sizes["experts"], hyper.sizes["expert"]
    rows = np.arange(experts * 2 * size).reshape(experts, 2, size)
    return {"expert gates": rows[:, 0].ravel(), "expert ups": rows[:, 1].ravel()}


def read_without_states(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    """Of Granite 4's small models, which llama.cpp's granite computes."""
    if config.values.get("num_local_experts"):
        raise UnsupportedModel(
            f"{config.path} has experts and no layer with a state; Granite 4 is converted with one "
            "of both at most left out."
        )
    shared = config.integer("shared_intermediate_size")
    config = Config(config.path, {**config.values, "intermediate_size": shared})
    decoder = replace(DECODER, name="granite", fixed={"attention_bias": False})
    hyper = decoder.read(config, tensor_names)
    return replace(
        hyper,
        features=hyper.features | {_DENSE},
        sizes={**hyper.sizes, "shared_expert": shared, "shared_gate_and_up": 2 * shared},
        orders=_shared_orders(shared),
        fields=(
            *hyper.fields,
            *multiplier_fields(decoder.name, config),
            boolean("granite.rope.scaling.finetuned", config.values.get(_POSITIONS) == "rope"),
        ),
    )


def _shared_orders(size: int) -> dict[str, Order]:
    return {
        "shared_expert gates": np.arange(size),
        "shared_expert ups": np.arange(size, 2 * size),
    }


def _without_states(config: Config) -> Family | None:
    config = config.renamed({"layer_types": "layers_block_type"})
    kinds = _kinds(config, config.integer("num_hidden_layers"))
    return None if STATE in kinds else GRANITE_ATTENTION


GRANITE_ATTENTION = Family(
    name="granite",
    models="Granite 4 without states",
    architectures=("GraniteMoeHybridForCausalLM",),
    model_types=("granitemoehybrid",),
    rules=(
        *outer_rules(),
        *norm_rules(),
        *attention_rules(rotated=Rows.INTERLEAVE_HEADS),
        *(rule for rule in RULES if rule.needs == _DENSE),
    ),
    read_config=read_without_states,
    spellings=SPELLINGS,
)
GRANITE_HYBRID = Family(
    name="granitehybrid",
    models="Granite 4 with states",
    architectures=("GraniteMoeHybridForCausalLM",),
    model_types=("granitemoehybrid",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
    variant=_without_states,
)
