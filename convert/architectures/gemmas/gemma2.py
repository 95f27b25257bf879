"""Gemma 2: soft caps, and a sliding window in every other layer.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    layer,
    outer_rules,
)
from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.architectures.gemmas.gemma_attention import check_attention_scale
from convert.architectures.windows import window_fields
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.gguf.header import f32

DECODER = Decoder(
    name="gemma2",
    activations=("gelu_pytorch_tanh",),
    rope_types=("default",),
    knows_windows=True,
    fixed={"attention_bias": False, "tie_word_embeddings": True},
    defaults={"head_dim": 256, "tie_word_embeddings": True, "query_pre_attn_scalar": 256},
)

NORM_RULES: tuple[TensorRule, ...] = (
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",), Rows.ONE_PLUS),
    layer(
        "post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",), Rows.ONE_PLUS
    ),
    layer("ffn_norm.weight", "pre_feedforward_layernorm.weight", ("hidden",), Rows.ONE_PLUS),
    layer("post_ffw_norm.weight", "post_feedforward_layernorm.weight", ("hidden",), Rows.ONE_PLUS),
)

RULES = (
    *outer_rules(norm=Rows.ONE_PLUS),
    *NORM_RULES,
    *attention_rules(),
    *feed_forward_rules(),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.with_defaults(DECODER.defaults)
    hyper = DECODER.read(config, tensor_names)
    check_attention_scale(config, hyper, num_layers_of_largest=46)
    windows = window_fields("gemma2", config, hyper.num_layers, usual_period=2)
    if not windows:
        raise UnsupportedModel(
            f"{config.path} has no layer with a sliding window; llama.cpp's gemma2 always has some."
        )
    return replace(
        hyper,
        fields=(
            *hyper.fields,
            f32("gemma2.attn_logit_softcapping", config.number("attn_logit_softcapping")),
            f32("gemma2.final_logit_softcapping", config.number("final_logit_softcapping")),
            *windows,
        ),
    )


GEMMA2 = Family(
    name="gemma2",
    models="Gemma 2",
    architectures=("Gemma2ForCausalLM",),
    model_types=("gemma2",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
