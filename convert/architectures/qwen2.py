"""Qwen 1.5, 2 and 2.5. Knows no tokenizers."""

from __future__ import annotations

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    norm_rules,
    outer_rules,
    qkv_bias_rules,
)
from convert.architectures.family import Family

DECODER = Decoder(name="qwen2", has_free_head_dim=False, default_window=4096)

RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(),
    *qkv_bias_rules(),
    *feed_forward_rules(),
)

QWEN2 = Family(
    name="qwen2",
    models="Qwen 1.5, 2, 2.5",
    architectures=("Qwen2ForCausalLM",),
    headless=("Qwen2Model",),
    model_types=("qwen2",),
    rules=RULES,
    read_config=DECODER.read,
    spellings=SPELLINGS,
)
