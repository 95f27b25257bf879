"""BERT as an encoder of texts into embeddings (MiniLM, BGE, E5, ...).

Knows no tokenizers and no classifiers.
"""

from __future__ import annotations

from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import boolean, f32, u32

# all of them ggml's gelu, to within its own precision
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh")


def _layer(target: str, source: str, size: tuple[str, ...]) -> tuple[TensorRule, TensorRule]:
    """Weight and bias; a bias is as long as the weight's first axis."""
    return (
        TensorRule(
            target=f"blk.{{layer}}.{target}.weight",
            source=f"encoder.layer.{{layer}}.{source}.weight",
            shape=size,
        ),
        TensorRule(
            target=f"blk.{{layer}}.{target}.bias",
            source=f"encoder.layer.{{layer}}.{source}.bias",
            shape=size[:1],
        ),
    )


# What BERT's descendants have, too.
WORDS = TensorRule(
    target="token_embd.weight",
    source="embeddings.word_embeddings.weight",
    shape=("vocab", "hidden"),
)
TYPES = TensorRule(
    target="token_types.weight",
    source="embeddings.token_type_embeddings.weight",
    shape=("token_types", "hidden"),
)
NORM = tuple(
    TensorRule(
        target=f"token_embd_norm.{kind}", source=f"embeddings.LayerNorm.{kind}", shape=("hidden",)
    )
    for kind in ("weight", "bias")
)
RULES = (
    WORDS,
    TensorRule(
        target="position_embd.weight",
        source="embeddings.position_embeddings.weight",
        shape=("positions", "hidden"),
    ),
    TYPES,
    *NORM,
    *_layer("attn_q", "attention.self.query", ("hidden", "hidden")),
    *_layer("attn_k", "attention.self.key", ("hidden", "hidden")),
    *_layer("attn_v", "attention.self.value", ("hidden", "hidden")),
    *_layer("attn_output", "attention.output.dense", ("hidden", "hidden")),
    *_layer("attn_output_norm", "attention.output.LayerNorm", ("hidden",)),
    *_layer("ffn_up", "intermediate.dense", ("feed_forward", "hidden")),
    *_layer("ffn_down", "output.dense", ("hidden", "feed_forward")),
    *_layer("layer_output_norm", "output.LayerNorm", ("hidden",)),
)

# "bert." is before every name in checkpoints with a head; gamma and beta are
# TensorFlow's words.
SPELLINGS = (
    (r"^bert\.(.*LayerNorm)\.gamma$", r"\1.weight"),
    (r"^bert\.(.*LayerNorm)\.beta$", r"\1.bias"),
    (r"^bert\.", ""),
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)

# The pooler and the heads of pre-training play no part in an embedding.
UNUSED = ("embeddings.position_ids", "pooler.*", "cls.*")


def read_config(config: Config, _tensor_names: frozenset[str]) -> Hyperparameters:
    _check(config)
    hidden, num_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    if hidden % num_heads:
        raise DamagedCheckpoint(
            f"{config.path}: a hidden_size of {hidden} cannot be divided among {num_heads} heads."
        )
    sizes = {
        "vocab": config.integer("vocab_size"),
        "hidden": hidden,
        "positions": config.integer("max_position_embeddings"),
        "token_types": config.integer("type_vocab_size", 2),
        "feed_forward": config.integer("intermediate_size"),
    }
    num_layers = config.integer("num_hidden_layers")
    return Hyperparameters(
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden // num_heads,
        sizes=sizes,
        features=frozenset(),
        fields=(
            u32("bert.block_count", num_layers),
            u32("bert.context_length", sizes["positions"]),
            u32("bert.embedding_length", hidden),
            u32("bert.feed_forward_length", sizes["feed_forward"]),
            u32("bert.attention.head_count", num_heads),
            f32("bert.attention.layer_norm_epsilon", config.number("layer_norm_eps", 1e-12)),
            boolean("bert.attention.causal", False),
            u32("tokenizer.ggml.token_type_count", sizes["token_types"]),
        ),
        unused=UNUSED,
    )


def _check(config: Config) -> None:
    activation = config.text("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise UnsupportedModel(
            f"{config.path} has hidden_act = {activation}; llama.cpp's bert only supports gelu."
        )
    positions = config.text("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UnsupportedModel(
            f"{config.path} has position_embedding_type = {positions}; llama.cpp's bert only "
            "supports absolute."
        )
    if config.flag("is_decoder", False):
        raise UnsupportedModel(
            f"{config.path} has is_decoder = true; llama.cpp's bert is an encoder."
        )


BERT = Family(
    name="bert",
    models="BERT, MiniLM, BGE, E5 (English): embeddings",
    architectures=("BertModel", "BertForMaskedLM", "BertForPreTraining"),
    model_types=("bert",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
