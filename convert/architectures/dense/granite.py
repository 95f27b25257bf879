"""Granite 3 and 4 without states, dense and with a mixture of experts; and MiniCPM, which
differs in how its config says the same: the llama graph times a few numbers.

Knows no tokenizers.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    layer,
    norm_rules,
    outer_rules,
    with_switches,
)
from convert.architectures.experts import with_experts
from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.architectures.llama import RULES as LLAMA_RULES
from convert.config import Config
from convert.gguf.header import Field, f32, u32

DECODER = Decoder(
    name="granite",
    rope_types=("default",),
    fixed={"attention_bias": False, "mlp_bias": False},
)
MOE_DECODER = replace(DECODER, name="granitemoe")
MINICPM_DECODER = Decoder(name="minicpm", rope_types=("default",), defaults={"rms_norm_eps": 1e-6})

SHARED = "shared expert"


def halves(
    gate: str, up: str, source: str, shape: tuple[str, ...], part: str, needs: str | None = None
) -> tuple[TensorRule, TensorRule]:
    """Gate and up of one fused tensor; `part` is the word for the rows of either."""
    becomes = (*shape[:-2], part, shape[-1])
    return (
        layer(gate, source, shape, needs=needs, order=f"{part} gates", becomes=becomes),
        layer(up, source, shape, needs=needs, order=f"{part} ups", becomes=becomes),
    )


_MOE, _SHARED_MLP = "block_sparse_moe", "shared_mlp"
MOE_RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(rotated=Rows.INTERLEAVE_HEADS),
    layer("ffn_gate_inp.weight", f"{_MOE}.router.layer.weight", ("experts", "hidden")),
    *halves(
        "ffn_gate_exps.weight",
        "ffn_up_exps.weight",
        f"{_MOE}.input_linear.weight",
        ("experts", "gate_and_up", "hidden"),
        "expert",
    ),
    layer("ffn_down_exps.weight", f"{_MOE}.output_linear.weight", ("experts", "hidden", "expert")),
    *halves(
        "ffn_gate_shexp.weight",
        "ffn_up_shexp.weight",
        f"{_SHARED_MLP}.input_linear.weight",
        ("shared_gate_and_up", "hidden"),
        "shared_expert",
        SHARED,
    ),
    layer(
        "ffn_down_shexp.weight",
        f"{_SHARED_MLP}.output_linear.weight",
        ("hidden", "shared_expert"),
        needs=SHARED,
    ),
)


def read_dense(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = DECODER.read(config, tensor_names)
    return replace(hyper, fields=(*hyper.fields, *multiplier_fields(DECODER.name, config)))


def read_moe(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    name = MOE_DECODER.name
    hyper = with_experts(name, MOE_DECODER.read(config, tensor_names), config, "intermediate_size")
    experts, size = hyper.sizes["experts"], hyper.sizes["expert"]
    fields = [*hyper.fields, *multiplier_fields(name, config)]
    sizes = {**hyper.sizes, "gate_and_up": 2 * size}
    rows = np.arange(experts * 2 * size).reshape(experts, 2, size)
    orders = {"expert gates": rows[:, 0].ravel(), "expert ups": rows[:, 1].ravel()}
    features = hyper.features
    if config.values.get("shared_intermediate_size"):
        shared = config.integer("shared_intermediate_size")
        fields.append(u32(f"{name}.expert_shared_feed_forward_length", shared))
        sizes |= {"shared_expert": shared, "shared_gate_and_up": 2 * shared}
        orders |= {
            "shared_expert gates": np.arange(shared),
            "shared_expert ups": np.arange(shared, 2 * shared),
        }
        features |= {SHARED}
    return replace(hyper, fields=tuple(fields), sizes=sizes, orders=orders, features=features)


def multiplier_fields(name: str, config: Config) -> tuple[Field, ...]:
    """What Granite multiplies by, where a config says so: 1 where it does not."""
    keys = {
        "embedding_scale": "embedding_multiplier",
        "residual_scale": "residual_multiplier",
        "attention.scale": "attention_multiplier",
        "logit_scale": "logits_scaling",  # by which logits are divided
    }
    return tuple(f32(f"{name}.{ours}", config.number(key, 1.0)) for ours, key in keys.items())


def read_minicpm(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    """Source: modeling_minicpm.py of openbmb/MiniCPM-2B-sft-bf16."""
    hyper = MINICPM_DECODER.read(config, tensor_names)
    hyper = with_switches(hyper, config, {"attention_bias": False})
    name, hidden = MINICPM_DECODER.name, hyper.sizes["hidden"]
    return replace(
        hyper,
        fields=(
            *hyper.fields,
            f32(f"{name}.embedding_scale", config.number("scale_emb", 1.0)),
            f32(
                f"{name}.residual_scale",
                config.number("scale_depth", 1.0) / math.sqrt(hyper.num_layers),
            ),
            f32(f"{name}.logit_scale", hidden / config.number("dim_model_base", 1.0)),
        ),
    )


GRANITE = Family(
    name="granite",
    models="Granite 3",
    architectures=("GraniteForCausalLM",),
    model_types=("granite",),
    rules=LLAMA_RULES,
    read_config=read_dense,
    spellings=SPELLINGS,
)
GRANITE_MOE = Family(
    name="granitemoe",
    models="Granite 3 with experts",
    architectures=("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
    model_types=("granitemoe", "granitemoeshared"),
    rules=MOE_RULES,
    read_config=read_moe,
    spellings=SPELLINGS,
)
MINICPM = Family(
    name="minicpm",
    models="MiniCPM 1 and 2",
    architectures=("MiniCPMForCausalLM",),
    model_types=("minicpm",),
    rules=(
        *outer_rules(),
        *norm_rules(),
        *attention_rules(rotated=Rows.INTERLEAVE_HEADS),
        *feed_forward_rules(),
    ),
    read_config=read_minicpm,
    spellings=SPELLINGS,
)
