"""Nomic BERT (nomic-embed-text v1 and v1.5): BERT with a rotation instead of positions, and
gates in its feed-forward networks.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import layer
from convert.architectures.encoders.bert import TYPES, WORDS
from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import boolean, f32, u32

NAME = "nomic-bert"
# the releases' names, of GPT-2's kind, for transformers'
_KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "hidden_act": "activation_function",
    "layer_norm_eps": "layer_norm_epsilon",
    "rope_theta": "rotary_emb_base",
}
_FIXED = {
    "prenorm": False,
    "causal": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "moe_every_n_layers": 0,
}


def _norm(target: str, source: str) -> tuple[TensorRule, TensorRule]:
    """Weight and bias, of each layer."""
    return (
        layer(f"{target}.weight", f"{source}.weight", ("hidden",)),
        layer(f"{target}.bias", f"{source}.bias", ("hidden",)),
    )


RULES = (
    WORDS,
    TYPES,
    TensorRule(target="token_embd_norm.weight", source="emb_ln.weight", shape=("hidden",)),
    TensorRule(target="token_embd_norm.bias", source="emb_ln.bias", shape=("hidden",)),
    layer("attn_qkv.weight", "attn.Wqkv.weight", ("query_key_value", "hidden")),
    layer("attn_output.weight", "attn.out_proj.weight", ("hidden", "hidden")),
    *_norm("attn_output_norm", "norm1"),
    layer("ffn_up.weight", "mlp.fc11.weight", ("feed_forward", "hidden")),
    layer("ffn_gate.weight", "mlp.fc12.weight", ("feed_forward", "hidden")),
    layer("ffn_down.weight", "mlp.fc2.weight", ("hidden", "feed_forward")),
    *_norm("layer_output_norm", "norm2"),
)


def read_config(config: Config, _tensor_names: frozenset[str]) -> Hyperparameters:
    for key, expected in _FIXED.items():
        if config.values.get(key) not in (None, expected):
            raise UnsupportedModel(
                f"{config.path} has {key} = {config.values[key]}; llama.cpp's {NAME} only supports "
                f"{expected}."
            )
    config = config.renamed(_KEYS)
    activation = config.text("hidden_act", "silu")
    if activation not in ("silu", "swiglu"):
        raise UnsupportedModel(
            f"{config.path} has the activation {activation}; llama.cpp's {NAME} only supports "
            "swiglu."
        )
    hidden, num_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % num_heads:
        raise DamagedCheckpoint(
            f"{config.path}: a hidden size of {hidden} cannot be divided among {num_heads} heads."
        )
    # the releases speak of 8,192 positions, for a scaling of the rotation that is not in them
    context = config.integer("max_position_embeddings")
    context = min(context, config.integer("max_trained_positions", context))
    num_layers, token_types = (
        config.integer("num_hidden_layers"),
        config.integer("type_vocab_size", 2),
    )
    sizes = {
        "vocab": config.integer("vocab_size"),
        "hidden": hidden,
        "query_key_value": 3 * hidden,
        "feed_forward": config.integer("intermediate_size"),
        "token_types": token_types,
    }
    return Hyperparameters(
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden // num_heads,
        sizes=sizes,
        features=frozenset(),
        fields=(
            u32(f"{NAME}.block_count", num_layers),
            u32(f"{NAME}.context_length", context),
            u32(f"{NAME}.embedding_length", hidden),
            u32(f"{NAME}.feed_forward_length", sizes["feed_forward"]),
            u32(f"{NAME}.attention.head_count", num_heads),
            f32(f"{NAME}.attention.layer_norm_epsilon", config.number("layer_norm_eps", 1e-12)),
            boolean(f"{NAME}.attention.causal", False),
            f32(f"{NAME}.rope.freq_base", config.rope.number("rope_theta", 1000.0)),
            u32("tokenizer.ggml.token_type_count", token_types),
        ),
        unused=("pooler.*", "cls.*", "*rotary_emb.inv_freq"),
    )


NOMIC_BERT = Family(
    name=NAME,
    models="nomic-embed-text v1 and v1.5: embeddings",
    architectures=("NomicBertModel",),
    model_types=("nomic_bert",),
    rules=tuple(
        replace(rule, source=rule.source.replace("model.layers.", "encoder.layers."))
        for rule in RULES
    ),
    read_config=read_config,
    spellings=((r"^bert\.", ""), (r"^model\.", "")),
)
