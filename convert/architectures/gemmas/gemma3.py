"""Gemma 3: QK norms, two rotations.

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
)
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.gemmas.gemma2 import NORM_RULES
from convert.architectures.gemmas.gemma_attention import check_attention_scale
from convert.architectures.windows import window_fields
from convert.config import Config
from convert.errors import UnsupportedModel
from convert.gguf.header import f32

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

RULES = (
    *outer_rules(norm=Rows.ONE_PLUS),
    *NORM_RULES,
    *attention_rules(),
    *qk_norm_rules(norm=Rows.ONE_PLUS),
    *feed_forward_rules(),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    text = config.with_defaults(DECODER.defaults)
    hyper = DECODER.read(text, tensor_names)
    check_attention_scale(text, hyper, num_layers_of_largest=62)
    if text.sliding_rope.text("rope_type") != "default":
        raise UnsupportedModel(
            f"{text.path}: llama.cpp does not scale the rotation in Gemma 3's layers with a "
            "sliding window."
        )
    fields = [
        *hyper.fields,
        *window_fields("gemma3", text, hyper.num_layers, usual_period=6),
        f32("gemma3.rope.freq_base_swa", text.sliding_rope.number("rope_theta", LOCAL_THETA)),
    ]
    if "final_logit_softcapping" in text:
        fields.append(f32("gemma3.final_logit_softcapping", text.number("final_logit_softcapping")))
    return replace(hyper, fields=tuple(fields))


GEMMA3 = Family(
    name="gemma3",
    models="Gemma 3",
    architectures=("Gemma3ForCausalLM",),
    headless=("Gemma3TextModel",),
    model_types=("gemma3_text",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
