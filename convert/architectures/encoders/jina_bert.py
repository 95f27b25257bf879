"""Jina BERT (jina-embeddings-v2): BERT with scores that fall with the distance instead of
positions, and gates in its feed-forward networks; in the versions for code and for other
languages than English, more norms.

Knows no tokenizers and no classifiers.

Source: modeling_bert.py of jinaai/jina-bert-implementation (English) and
jinaai/jina-bert-v2-qk-post-norm (the others); llama.cpp's bert.cpp, which takes the first half
of the fused matrix for gates, as the former does. The latter has ups there: its halves
change their places.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.architectures.decoder import layer
from convert.architectures.encoders.bert import ACTIVATIONS, NORM, TYPES, WORDS
from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import boolean, f32, u32

NAME = "jina-bert-v2"
_MORE_NORMS = "norms of queries and keys, and one more after attention"
_FEWER_NORMS = "one norm after attention"
_FIXED = {"feed_forward_type": "geglu", "position_embedding_type": "alibi"}


def _with_bias(
    target: str, source: str, size: tuple[str, ...], needs: str | None = None
) -> tuple[TensorRule, TensorRule]:
    """Weight and bias of each layer; a bias is as long as the weight's first axis."""
    return (
        layer(f"{target}.weight", f"{source}.weight", size, needs=needs),
        layer(f"{target}.bias", f"{source}.bias", size[:1], needs=needs),
    )


_SQUARE, _BACK, _FUSED = (
    ("hidden", "hidden"),
    ("hidden", "feed_forward"),
    ("gate_and_up", "hidden"),
)
_LAYERS = (
    *_with_bias("attn_q", "attention.self.query", _SQUARE),
    *_with_bias("attn_k", "attention.self.key", _SQUARE),
    *_with_bias("attn_v", "attention.self.value", _SQUARE),
    *_with_bias("attn_q_norm", "attention.self.layer_norm_q", ("hidden",), _MORE_NORMS),
    *_with_bias("attn_k_norm", "attention.self.layer_norm_k", ("hidden",), _MORE_NORMS),
    *_with_bias("attn_output", "attention.output.dense", _SQUARE),
    *_with_bias("attn_output_norm", "attention.output.LayerNorm", ("hidden",)),
    *_with_bias("attn_norm_2", "layer_norm_1", ("hidden",), _MORE_NORMS),
    layer("ffn_up.weight", "mlp.gated_layers.weight", _FUSED, needs=_FEWER_NORMS),
    layer(
        "ffn_up.weight",
        "mlp.up_gated_layer.weight",
        _FUSED,
        needs=_MORE_NORMS,
        order="gates, then ups",
    ),
    *_with_bias("ffn_down", "mlp.wo", _BACK, _FEWER_NORMS),
    *_with_bias("ffn_down", "mlp.down_layer", _BACK, _MORE_NORMS),
    *_with_bias("layer_output_norm", "mlp.layernorm", ("hidden",), _FEWER_NORMS),
    *_with_bias("layer_output_norm", "layer_norm_2", ("hidden",), _MORE_NORMS),
)
RULES = (
    WORDS,
    TYPES,
    *NORM,
    *(
        replace(rule, source=rule.source.replace("model.layers.", "encoder.layer."))
        for rule in _LAYERS
    ),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    _check(config)
    hidden, num_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % num_heads:
        raise DamagedCheckpoint(
            f"{config.path}: a hidden_size of {hidden} cannot be divided among {num_heads} heads."
        )
    num_layers, feed_forward = (
        config.integer("num_hidden_layers"),
        config.integer("intermediate_size"),
    )
    sizes = {
        "vocab": config.integer("vocab_size"),
        "hidden": hidden,
        "feed_forward": feed_forward,
        "gate_and_up": 2 * feed_forward,
        "token_types": config.integer("type_vocab_size", 2),
    }
    has_more = any(name.endswith(".layer_norm_q.weight") for name in tensor_names)
    return Hyperparameters(
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden // num_heads,
        sizes=sizes,
        features=frozenset({_MORE_NORMS if has_more else _FEWER_NORMS}),
        orders={"gates, then ups": np.roll(np.arange(2 * feed_forward), feed_forward)},
        fields=(
            u32(f"{NAME}.block_count", num_layers),
            u32(f"{NAME}.context_length", config.integer("max_position_embeddings")),
            u32(f"{NAME}.embedding_length", hidden),
            u32(f"{NAME}.feed_forward_length", feed_forward),
            u32(f"{NAME}.attention.head_count", num_heads),
            f32(f"{NAME}.attention.layer_norm_epsilon", config.number("layer_norm_eps", 1e-12)),
            boolean(f"{NAME}.attention.causal", False),
            u32("tokenizer.ggml.token_type_count", sizes["token_types"]),
        ),
        unused=("embeddings.position_ids", "pooler.*", "cls.*"),
    )


def _check(config: Config) -> None:
    for key, expected in _FIXED.items():
        if config.values.get(key) != expected:
            raise UnsupportedModel(
                f"{config.path} has {key} = {config.values.get(key)}; llama.cpp's {NAME} only "
                f"supports {expected}."
            )
    activation = config.text("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise UnsupportedModel(
            f"{config.path} has hidden_act = {activation}; llama.cpp's {NAME} only supports gelu."
        )


JINA_BERT = Family(
    name=NAME,
    models="Jina Embeddings v2: embeddings",
    architectures=("JinaBertModel", "JinaBertForMaskedLM"),
    model_types=(),
    rules=RULES,
    read_config=read_config,
    spellings=((r"^bert\.", ""),),
)
