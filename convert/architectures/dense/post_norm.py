"""Decoders with norms after attention and the feed-forward network instead of before:
OLMo 2 and 3, EXAONE 4.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    feed_forward_rules,
    layer,
    outer_rules,
    qk_norm_rules,
)
from convert.architectures.family import Family, Hyperparameters
from convert.architectures.rope import llama3_divisors
from convert.architectures.windows import SLIDING, window_fields, window_kinds
from convert.config import Config
from convert.errors import UnsupportedModel

OLMO2_DECODER = Decoder(
    name="olmo2",
    rope_types=("default", "linear", "yarn"),
    has_free_head_dim=False,
    knows_windows=True,
    fixed={"attention_bias": False, "tie_word_embeddings": False},
    defaults={"tie_word_embeddings": False},
)
OLMO3_DECODER = replace(
    OLMO2_DECODER,
    default_window=4096,
    defaults={"tie_word_embeddings": False, "rope_theta": 500000.0},
)
EXAONE4_DECODER = Decoder(
    name="exaone4",
    rope_types=("default", "llama3"),
    has_free_head_dim=False,
    knows_windows=True,
    default_window=4096,
)
# of EXAONE 4: llama.cpp slides windows in models of this many layers only (exaone4.cpp)
SLIDING_LAYERS = 64

_POST_NORMS = (
    layer("post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",)),
    layer("post_ffw_norm.weight", "post_feedforward_layernorm.weight", ("hidden",)),
)
_COMMON = (*outer_rules(), *_POST_NORMS, *attention_rules(), *feed_forward_rules())
OLMO2_RULES = (
    *_COMMON,
    # of all heads together
    layer("attn_q_norm.weight", "self_attn.q_norm.weight", ("query",)),
    layer("attn_k_norm.weight", "self_attn.k_norm.weight", ("key",)),
)


def read_olmo3(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = OLMO3_DECODER.read(config, tensor_names)
    if "sliding_window" not in config.values:
        config = config.with_defaults({"sliding_window": OLMO3_DECODER.default_window})
    windows = window_fields("olmo2", config, hyper.num_layers, usual_period=4)
    sliding, full = config.sliding_rope, config.rope
    if windows and sliding.text("rope_type") != "default":
        raise UnsupportedModel(
            f"{sliding.path}: llama.cpp does not scale the rotation in OLMo 3's layers with a "
            "sliding window."
        )
    theta = full.number("rope_theta", 500000.0)
    if windows and sliding.number("rope_theta", theta) != theta:
        raise UnsupportedModel(
            f"{sliding.path} has another rope_theta than the layers without a window, which "
            "llama.cpp does not compute for OLMo 3."
        )
    return replace(hyper, fields=(*hyper.fields, *windows))


def read_exaone4(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    if "sliding_window" not in config.values:
        config = config.with_defaults({"sliding_window": EXAONE4_DECODER.default_window})
    hyper = EXAONE4_DECODER.read(config, tensor_names)
    hyper = replace(hyper, computed=llama3_divisors(config.rope, hyper.head_dim))
    config = _with_a_number_as_pattern(config)
    has_window = config.values.get("sliding_window") is not None
    slides = has_window and SLIDING in window_kinds(config, hyper.num_layers, usual_period=4)
    if slides != (hyper.num_layers == SLIDING_LAYERS):
        raise UnsupportedModel(
            f"{config.path} has {hyper.num_layers} layers and "
            f"{'a' if slides else 'no'} sliding window; llama.cpp's exaone4 slides one in models "
            f"of {SLIDING_LAYERS} layers and in no others."
        )
    if has_window and not slides:
        raise UnsupportedModel(
            f"{config.path} has sliding_window = {config.values['sliding_window']} and no layer "
            "that slides: transformers then rotates none, and llama.cpp's exaone4 all. Where the "
            "model was trained without a window, set sliding_window to null."
        )
    if not slides:
        return hyper
    windows = window_fields("exaone4", config, hyper.num_layers, usual_period=4)
    return replace(hyper, fields=(*hyper.fields, *windows))


def _with_a_number_as_pattern(config: Config) -> Config:
    """The first releases spell the pattern out: LLLG, local and global."""
    pattern = config.values.get("sliding_window_pattern")
    if not isinstance(pattern, str):
        return config
    if pattern != "L" * (len(pattern) - 1) + "G":
        raise UnsupportedModel(
            f"{config.path} has sliding_window_pattern = {pattern!r}; only such as 'LLLG' are read."
        )
    return Config(config.path, {**config.values, "sliding_window_pattern": len(pattern)})


OLMO2 = Family(
    name="olmo2",
    models="OLMo 2",
    architectures=("Olmo2ForCausalLM",),
    model_types=("olmo2",),
    rules=OLMO2_RULES,
    read_config=OLMO2_DECODER.read,
    spellings=SPELLINGS,
)
OLMO3 = Family(
    name="olmo2",
    models="OLMo 3",
    architectures=("Olmo3ForCausalLM",),
    model_types=("olmo3",),
    rules=OLMO2_RULES,
    read_config=read_olmo3,
    spellings=SPELLINGS,
)
EXAONE4 = Family(
    name="exaone4",
    models="EXAONE 4.0",
    architectures=("Exaone4ForCausalLM",),
    model_types=("exaone4",),
    rules=(*_COMMON, *qk_norm_rules()),
    read_config=read_exaone4,
    spellings=SPELLINGS,
)
