"""Gemma 1, and what the later Gemmas keep of it. Knows no tokenizers."""

from __future__ import annotations

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    norm_rules,
    outer_rules,
)
from convert.architectures.family import Family, Rows

DECODER = Decoder(
    name="gemma",
    # The first releases say "gelu" and mean its tanh approximation; transformers reads
    # it so too.
    activations=("gelu_pytorch_tanh", "gelu"),
    rope_types=("default",),
    fixed={"attention_bias": False, "tie_word_embeddings": True},
    defaults={"head_dim": 256, "tie_word_embeddings": True},
)

RULES = (
    *outer_rules(norm=Rows.ONE_PLUS),
    *norm_rules(norm=Rows.ONE_PLUS),
    *attention_rules(),
    *feed_forward_rules(),
)

GEMMA = Family(
    name="gemma",
    models="Gemma 1",
    architectures=("GemmaForCausalLM",),
    model_types=("gemma",),
    rules=RULES,
    read_config=DECODER.read,
    spellings=SPELLINGS,
)
