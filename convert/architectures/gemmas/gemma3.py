"""Gemma 3 and EmbeddingGemma: QK norms, two rotations.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    outer_rules,
    qk_norm_rules,
    with_fields,
)
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.gemmas.gemma2 import NORM_RULES
from convert.architectures.gemmas.gemma_attention import check_attention_scale
from convert.architectures.windows import window_fields
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.gguf.header import boolean, f32, u32

LOCAL_THETA = 10000.0

DECODER = Decoder(
    name="gemma3",
    activations=("gelu_pytorch_tanh",),
    rope_types=("default", "linear"),
    knows_windows=True,
    fixed={
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "use_bidirectional_attention": False,
    },
    # The published configs leave out whatever equals these defaults of transformers.
    defaults={
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 256,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
)

# Sees to both sides, in windows that reach half their length to either, as transformers' do.
EMBEDDING_DECODER = replace(
    DECODER,
    name="gemma-embedding",
    fixed={**DECODER.fixed, "use_bidirectional_attention": True},
)

RULES = (
    *outer_rules(norm=Rows.ONE_PLUS),
    *NORM_RULES,
    *attention_rules(),
    *qk_norm_rules(norm=Rows.ONE_PLUS),
    *feed_forward_rules(),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    return _read(DECODER, config, tensor_names)


def read_embedding(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = _read(EMBEDDING_DECODER, config, tensor_names)
    name = EMBEDDING_DECODER.name
    # llama.cpp knows no window of this architecture by itself
    return with_fields(
        hyper,
        boolean(f"{name}.attention.causal", False),
        u32(f"{name}.attention.sliding_window", config.integer("sliding_window")),
    )


def _read(decoder: Decoder, config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    name, text = decoder.name, config.with_defaults(decoder.defaults)
    hyper = decoder.read(text, tensor_names)
    check_attention_scale(text, hyper, num_layers_of_largest=62)
    if text.sliding_rope.text("rope_type") != "default":
        raise UnsupportedModel(
            f"{text.path}: llama.cpp does not scale the rotation in Gemma 3's layers with a "
            "sliding window."
        )
    fields = [
        *hyper.fields,
        *window_fields(name, text, hyper.num_layers, usual_period=6),
        f32(f"{name}.rope.freq_base_swa", text.sliding_rope.number("rope_theta", LOCAL_THETA)),
    ]
    if "final_logit_softcapping" in text:
        fields.append(
            f32(f"{name}.final_logit_softcapping", text.number("final_logit_softcapping"))
        )
    return replace(hyper, fields=tuple(fields))


EMBEDDING_GEMMA = Family(
    name=EMBEDDING_DECODER.name,
    models="EmbeddingGemma: embeddings",
    architectures=(),
    headless=("Gemma3TextModel",),
    model_types=(),
    rules=RULES,
    read_config=read_embedding,
    spellings=SPELLINGS,
)


def _that_embeds(config: Config) -> Family | None:
    sees_both_sides = config.values.get("use_bidirectional_attention") is True
    is_headless = any(name in EMBEDDING_GEMMA.headless for name in config.architectures)
    return EMBEDDING_GEMMA if sees_both_sides and is_headless else None


GEMMA3 = Family(
    name="gemma3",
    models="Gemma 3",
    architectures=("Gemma3ForCausalLM",),
    headless=("Gemma3TextModel",),
    model_types=("gemma3_text",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
    variant=_that_embeds,
)
