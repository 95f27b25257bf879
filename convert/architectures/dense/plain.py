"""Decoders that differ from Llama by the names of norms, biases or the rotation:
Seed-OSS, ERNIE 4.5, Hunyuan, GLM-4.

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
    norm_rules,
    outer_rules,
    qkv_bias_rules,
    with_switches,
)
from convert.architectures.family import Family, Hyperparameters
from convert.config import Config

SEED_OSS_DECODER = Decoder(
    name="seed_oss",
    rope_types=("default", "linear", "yarn"),
    fixed={"attention_out_bias": False, "mlp_bias": False},
    defaults={"head_dim": 128},
)
# transformers rotates adjacent rows here, as llama.cpp does
ERNIE_DECODER = Decoder(
    name="ernie4_5",
    rope_types=("default", "linear", "yarn"),
    fixed={"use_bias": False},
    defaults={"rope_theta": 500000.0},
)
GLM4_DECODER = Decoder(
    name="glm4",
    rope_types=("default", "linear", "yarn"),
    rotates_part=True,
    defaults={"head_dim": 128, "partial_rotary_factor": 0.5},
)
HUNYUAN_DECODER = Decoder(name="hunyuan-dense", fixed={"attention_bias": False})
# the context of a model whose rotation is stretched by `alpha`, by Hunyuan's model cards
HUNYUAN_CONTEXT = 256 * 1024

_BIAS = "attention_bias"


def read_seed_oss(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    return with_switches(SEED_OSS_DECODER.read(config, tensor_names), config, {_BIAS: True})


def read_ernie4_5(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    if "head_dim" not in config.values:  # null leaves it to the model's width
        config = config.with_defaults({"head_dim": 128})
    return ERNIE_DECODER.read(config, tensor_names)


def read_glm4(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = GLM4_DECODER.read(config, tensor_names)
    sizes = {**hyper.sizes, "gate_and_up": 2 * hyper.sizes["feed_forward"]}
    return with_switches(replace(hyper, sizes=sizes), config, {_BIAS: True})


def read_hunyuan(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    """A `dynamic` scaling with a fixed `alpha` is another base of the rotation
    (`compute_ntk_alpha_rope_parameters` in modeling_hunyuan_v1_dense.py).
    """
    rope = config.rope
    if rope.text("rope_type") != "dynamic" or not rope.values.get("alpha"):
        return HUNYUAN_DECODER.read(config, tensor_names)
    head_dim = config.integer(
        "head_dim", config.integer("hidden_size") // config.integer("num_attention_heads")
    )
    base = rope.number("rope_theta", 10000.0) * rope.number("alpha") ** (head_dim / (head_dim - 2))
    plain = {
        **{key: value for key, value in config.values.items() if not key.startswith("rope_")},
        "rope_theta": base,
        "max_position_embeddings": max(HUNYUAN_CONTEXT, config.integer("max_position_embeddings")),
    }
    return HUNYUAN_DECODER.read(Config(config.path, plain), tensor_names)


SEED_OSS = Family(
    name="seed_oss",
    models="Seed-OSS",
    architectures=("SeedOssForCausalLM",),
    model_types=("seed_oss",),
    rules=(
        *outer_rules(),
        layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
        layer("post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",)),
        *attention_rules(),
        *qkv_bias_rules(needs=_BIAS),
        *feed_forward_rules(),
    ),
    read_config=read_seed_oss,
    spellings=SPELLINGS,
)
ERNIE4_5 = Family(
    name="ernie4_5",
    models="ERNIE 4.5 without experts",
    architectures=("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"),
    model_types=("ernie4_5",),
    rules=(*outer_rules(), *norm_rules(), *attention_rules(), *feed_forward_rules()),
    read_config=read_ernie4_5,
    spellings=SPELLINGS,
)
GLM4 = Family(
    name="glm4",
    models="GLM-4-0414",
    architectures=("Glm4ForCausalLM",),
    model_types=("glm4",),
    rules=(
        *outer_rules(),
        layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
        layer("post_attention_norm.weight", "post_self_attn_layernorm.weight", ("hidden",)),
        layer("ffn_norm.weight", "post_attention_layernorm.weight", ("hidden",)),
        layer("post_ffw_norm.weight", "post_mlp_layernorm.weight", ("hidden",)),
        *attention_rules(),
        *qkv_bias_rules(needs=_BIAS),
        layer("ffn_up.weight", "mlp.gate_up_proj.weight", ("gate_and_up", "hidden")),
        layer("ffn_down.weight", "mlp.down_proj.weight", ("hidden", "feed_forward")),
    ),
    read_config=read_glm4,
    spellings=SPELLINGS,
)
HUNYUAN = Family(
    name="hunyuan-dense",
    models="Hunyuan dense",
    architectures=("HunYuanDenseV1ForCausalLM",),
    model_types=("hunyuan_v1_dense",),
    rules=(
        *outer_rules(),
        *norm_rules(),
        *attention_rules(),
        layer("attn_q_norm.weight", "self_attn.query_layernorm.weight", ("head",)),
        layer("attn_k_norm.weight", "self_attn.key_layernorm.weight", ("head",)),
        *feed_forward_rules(),
    ),
    read_config=read_hunyuan,
    spellings=SPELLINGS,
)
