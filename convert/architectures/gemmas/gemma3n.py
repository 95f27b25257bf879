"""Gemma 3n: four streams of which one is computed (AltUp), a learned residual beside attention
(LAuReL), embeddings for each layer, and last layers that use keys and values of earlier ones.

Knows no tokenizers.

Source: modeling_gemma3n.py of transformers; llama.cpp's gemma3n.cpp, where most of the numbers
are constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    layer,
    outer_rules,
    qk_norm_rules,
)
from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.architectures.windows import FULL, SLIDING, window_kinds
from convert.config import Config, whole
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import f32, u32

NAME = "gemma3n"
_NUM_STREAMS, _LAUREL_RANK, _PER_LAYER = 4, 64, 256
_NUM_WITH_KEYS = 20  # layers; the others use the keys of the last two of these
_NUM_SPARSE, _SPARSITY = 10, 0.95
_WINDOW_PERIOD = 5
_LOCAL_THETA = 10000.0

DECODER = Decoder(
    name=NAME,
    activations=("gelu_pytorch_tanh",),
    rope_types=("default",),
    knows_windows=True,
    fixed={
        "attention_bias": False,
        "tie_word_embeddings": True,
        "final_logit_softcapping": 30.0,
        "hidden_size_per_layer_input": _PER_LAYER,
        "altup_active_idx": 0,
        "altup_correct_scale": True,
        "altup_num_inputs": _NUM_STREAMS,
        "laurel_rank": _LAUREL_RANK,
    },
    # the numbers of transformers' class
    defaults={
        "vocab_size": 262400,
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 35,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "sliding_window": 512,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
)

RULES = (
    *outer_rules(),
    TensorRule(
        target="per_layer_token_embd.weight",
        source="model.embed_tokens_per_layer.weight",
        shape=("per_layer_vocab", "all_layers"),
        order="tokens",
    ),
    TensorRule(
        target="per_layer_model_proj.weight",
        source="model.per_layer_model_projection.weight",
        shape=("all_layers", "hidden"),
    ),
    TensorRule(
        target="per_layer_proj_norm.weight",
        source="model.per_layer_projection_norm.weight",
        shape=("per_layer",),
    ),
    *(
        TensorRule(
            target=f"{target}.weight",
            source=f"model.{source}.{{expert}}.weight",
            shape=("other_streams", "hidden", "hidden"),
        )
        for target, source in (
            ("altup_proj", "altup_projections"),
            ("altup_unembd_proj", "altup_unembed_projections"),
        )
    ),
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
    layer("post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",)),
    layer("ffn_norm.weight", "pre_feedforward_layernorm.weight", ("hidden",)),
    layer("post_ffw_norm.weight", "post_feedforward_layernorm.weight", ("hidden",)),
    *attention_rules(),
    *qk_norm_rules(),
    *feed_forward_rules(),
    layer("inp_gate.weight", "per_layer_input_gate.weight", ("per_layer", "hidden")),
    layer("proj.weight", "per_layer_projection.weight", ("hidden", "per_layer")),
    layer("post_norm.weight", "post_per_layer_input_norm.weight", ("hidden",)),
    layer("altup_correct_coef.weight", "altup.correction_coefs.weight", ("streams", "streams")),
    layer("altup_correct_scale.weight", "altup.correct_output_scale", ("hidden",)),
    layer("altup_predict_coef.weight", "altup.prediction_coefs.weight", ("pairs", "streams")),
    layer("altup_router.weight", "altup.modality_router.weight", ("streams", "hidden")),
    layer("altup_router_norm.weight", "altup.router_norm.weight", ("hidden",)),
    layer("laurel_l.weight", "laurel.linear_left.weight", ("laurel_rank", "hidden")),
    layer("laurel_r.weight", "laurel.linear_right.weight", ("hidden", "laurel_rank")),
    layer("laurel_post_norm.weight", "laurel.post_laurel_norm.weight", ("hidden",)),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = _with_one_size(config.with_defaults(DECODER.defaults))
    hyper = DECODER.read(config, tensor_names)
    _check_layers(config, hyper.num_layers)
    if config.sliding_rope.text("rope_type") != "default":
        raise UnsupportedModel(
            f"{config.path}: llama.cpp does not scale the rotation in Gemma 3n's layers with a "
            "sliding window."
        )
    vocab = hyper.sizes["vocab"]
    per_layer_vocab = min(vocab, config.integer("vocab_size_per_layer_input", 262144))
    tokens = np.arange(vocab)
    sizes = {
        **hyper.sizes,
        "per_layer_vocab": per_layer_vocab,
        "per_layer": _PER_LAYER,
        "all_layers": _PER_LAYER * hyper.num_layers,
        "streams": _NUM_STREAMS,
        "other_streams": _NUM_STREAMS - 1,
        "pairs": _NUM_STREAMS**2,
        "laurel_rank": _LAUREL_RANK,
    }
    return replace(
        hyper,
        sizes=sizes,
        # tokens that stand for images and sound have the row of the first one
        orders={"tokens": np.where(tokens < per_layer_vocab, tokens, 0)},
        fields=(
            *hyper.fields,
            u32(f"{NAME}.attention.sliding_window", config.integer("sliding_window")),
            u32(f"{NAME}.embedding_length_per_layer_input", _PER_LAYER),
            f32(
                f"{NAME}.rope.freq_base_swa",
                config.sliding_rope.number("rope_theta", _LOCAL_THETA),
            ),
        ),
    )


def _with_one_size(config: Config) -> Config:
    """Raises `UnsupportedModel` for layers whose feed-forward networks are of several sizes."""
    sizes = config.values.get("intermediate_size")
    if not isinstance(sizes, list):
        return config
    if len(set(map(str, sizes))) != 1:
        raise UnsupportedModel(
            f"{config.path} has an intermediate_size for each layer, and they differ; llama.cpp's "
            f"{NAME} only supports one."
        )
    values: Mapping[str, Any] = {**config.values, "intermediate_size": sizes[0]}
    return Config(config.path, values)


def _check_layers(config: Config, num_layers: int) -> None:
    """Raises `UnsupportedModel` where llama.cpp takes other layers for what they are."""
    num_shared = whole(config.values.get("num_kv_shared_layers", 15))
    if type(num_shared) is not int or num_layers - num_shared != _NUM_WITH_KEYS:
        raise UnsupportedModel(
            f"{config.path} has {num_layers} layers and num_kv_shared_layers = {num_shared}; "
            f"llama.cpp's {NAME} only supports {_NUM_WITH_KEYS} layers with keys of their own."
        )
    kinds = window_kinds(config, num_layers, usual_period=_WINDOW_PERIOD)
    usual = [FULL if (at + 1) % _WINDOW_PERIOD == 0 else SLIDING for at in range(num_layers)]
    if list(kinds) != usual:
        raise UnsupportedModel(
            f"{config.path} has layer_types in an order that llama.cpp's {NAME} does not know: "
            f"every {_WINDOW_PERIOD}th layer has no window there."
        )
    sparsity = config.values.get("activation_sparsity_pattern")
    expected = [_SPARSITY if at < _NUM_SPARSE else 0.0 for at in range(num_layers)]
    if sparsity is None:
        return
    if not isinstance(sparsity, list) or len(sparsity) != num_layers:
        raise DamagedCheckpoint(
            f"{config.path} has an activation_sparsity_pattern that is not a list of {num_layers} "
            "numbers."
        )
    if sparsity != expected:
        raise UnsupportedModel(
            f"{config.path} has an activation_sparsity_pattern that llama.cpp's {NAME} does not "
            f"know: {_SPARSITY} in the first {_NUM_SPARSE} layers, 0 in the others."
        )


GEMMA3N = Family(
    name=NAME,
    models="Gemma 3n",
    architectures=("Gemma3nForCausalLM",),
    model_types=("gemma3n_text",),
    rules=RULES,
    read_config=read_config,
    spellings=(
        (
            r"^(embed_tokens_per_layer|per_layer_model_projection|per_layer_projection_norm"
            r"|altup_projections|altup_unembed_projections)\.",
            r"model.\1.",
        ),
        *SPELLINGS,
    ),
)
