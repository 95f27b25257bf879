"""Mistral (7B, Nemo, Small):
the llama graph without biases, some with a sliding window.

Knows no tokenizers.
"""

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

DECODER = Decoder(name="llama", slides=True, default_window=4096)

RULES = (
    *outer_rules(),
    *norm_rules(),
    *attention_rules(rotated=Rows.INTERLEAVE_HEADS),
    *feed_forward_rules(),
)

MISTRAL = Family(
    name="llama",
    models="Mistral 7B, Nemo, Small",
    architectures=("MistralForCausalLM",),
    headless=("MistralModel",),
    model_types=("mistral",),
    rules=RULES,
    read_config=DECODER.read,
    spellings=SPELLINGS,
)
