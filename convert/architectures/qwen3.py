"""Qwen 3, dense. Knows no tokenizers."""

from __future__ import annotations

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    norm_rules,
    outer_rules,
    qk_norm_rules,
)
from convert.architectures.family import Family

DECODER = Decoder(
    name="qwen3",
    default_window=4096,
    fixed={"attention_bias": False},
    defaults={"head_dim": 128},
)

RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(),
    *qk_norm_rules(),
    *feed_forward_rules(),
)

QWEN3 = Family(
    name="qwen3",
    models="Qwen 3, Qwen3-Embedding, Qwen3-Reranker",
    architectures=("Qwen3ForCausalLM",),
    headless=("Qwen3Model",),
    model_types=("qwen3",),
    rules=RULES,
    read_config=DECODER.read,
    spellings=SPELLINGS,
)
