"""Llama 4 (Scout, Maverick): chunks of text in most layers, no rotation in the others, and
experts beside one for all tokens.

Knows no tokenizers.

Source: modeling_llama4.py of transformers; llama.cpp's llama4.cpp, which has the sizes of chunks
and the growth of queries as constants.
"""

from __future__ import annotations

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
)
from convert.architectures.experts import with_experts
from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.architectures.mixtures.routing import DENSE, MOE, needing
from convert.architectures.rope import llama3_divisors
from convert.config import Config, whole
from convert.errors import UnsupportedModel
from convert.gguf.header import u32

NAME = "llama4"
_NUM_EXPERTS_WITHOUT_NORMS = 128  # by which llama.cpp knows Maverick
_UNROTATED_PERIOD = 4

DECODER = Decoder(
    name=NAME,
    rope_types=("default", "llama3"),
    knows_windows=True,
    fixed={
        "attention_bias": False,
        "attention_chunk_size": 8192,
        "floor_scale": 8192,
        "attn_scale": 0.1,
    },
    keys={"intermediate_size": "intermediate_size_mlp"},
    # the numbers of transformers' class
    defaults={
        "vocab_size": 202048,
        "hidden_size": 5120,
        "num_hidden_layers": 48,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
)


def _fused(part: str) -> TensorRule:
    """All experts' gates, or ups, out of one tensor of matrices on their side."""
    return layer(
        f"ffn_{part}_exps.weight",
        "feed_forward.experts.gate_up_proj",
        ("experts", "hidden", "gate_and_up"),
        Rows.TRANSPOSE,
        columns=f"{part} columns",
        becomes=("experts", "expert", "hidden"),
    )


_BACK = ("experts", "expert", "hidden")
_EXPERTS = (
    layer("ffn_gate_inp.weight", "feed_forward.router.weight", ("experts", "hidden")),
    _fused("gate"),
    _fused("up"),
    layer("ffn_down_exps.weight", "feed_forward.experts.down_proj", _BACK, Rows.TRANSPOSE),
    *(
        layer(f"ffn_{part}_shexp.weight", f"feed_forward.shared_expert.{part}_proj.weight", size)
        for part, size in (
            ("gate", ("expert", "hidden")),
            ("up", ("expert", "hidden")),
            ("down", ("hidden", "expert")),
        )
    ),
)
RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(),
    *needing(
        DENSE,
        (
            replace(rule, source=rule.source.replace(".mlp.", ".feed_forward."))
            for rule in feed_forward_rules()
        ),
    ),
    *needing(MOE, _EXPERTS),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    _check(config)
    config = config.with_defaults({"intermediate_size_mlp": 16384, "rope_theta": 500000.0})
    hyper = DECODER.read(config, tensor_names)
    config = config.with_defaults({"num_local_experts": 16, "num_experts_per_tok": 1})
    hyper = with_experts(NAME, hyper, config, "intermediate_size")
    size, step = hyper.sizes["expert"], config.integer("interleave_moe_layer_step", 1)
    _check_layers(config, hyper.num_layers, hyper.num_experts, step)
    kinds = [MOE if (index + 1) % step == 0 else DENSE for index in range(hyper.num_layers)]
    return replace(
        hyper,
        layer_features=tuple(frozenset({kind}) for kind in kinds),
        sizes={**hyper.sizes, "gate_and_up": 2 * size},
        orders={"gate columns": np.arange(size), "up columns": size + np.arange(size)},
        computed=llama3_divisors(config.rope, hyper.head_dim),
        fields=(
            *hyper.fields,
            u32(f"{NAME}.expert_feed_forward_length", size),
            u32(f"{NAME}.interleave_moe_layer_step", step),
        ),
    )


def _check(config: Config) -> None:
    tuning = whole(config.values.get("attn_temperature_tuning"))
    if tuning is not None and not tuning:
        raise UnsupportedModel(
            f"{config.path} has attn_temperature_tuning = {tuning}; llama.cpp's {NAME} lets the "
            "queries of layers without a rotation grow."
        )


def _check_layers(config: Config, num_layers: int, num_experts: int, step: int) -> None:
    """Raises `UnsupportedModel` where llama.cpp takes other layers for what they are."""
    has_norms = num_experts != _NUM_EXPERTS_WITHOUT_NORMS
    if config.flag("use_qk_norm", True) != has_norms:
        raise UnsupportedModel(
            f"{config.path} has use_qk_norm = {not has_norms} and {num_experts} experts; "
            f"llama.cpp's {NAME} norms queries and keys unless there are "
            f"{_NUM_EXPERTS_WITHOUT_NORMS}."
        )
    rotated = [int((index + 1) % _UNROTATED_PERIOD != 0) for index in range(num_layers)]
    for key, expected in (
        ("no_rope_layers", rotated),
        ("moe_layers", list(range(step - 1, num_layers, step))),
    ):
        given = config.values.get(key)
        if given and given != expected:
            raise UnsupportedModel(
                f"{config.path} has {key} = {given}; llama.cpp's {NAME} only supports {expected}."
            )


LLAMA4 = Family(
    name=NAME,
    models="Llama 4",
    architectures=("Llama4ForCausalLM",),
    model_types=("llama4_text",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
