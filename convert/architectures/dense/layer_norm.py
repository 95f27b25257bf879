"""Decoders whose norms take a mean away, most of them with biases: GPT-2, GPT-NeoX and
Pythia, StarCoder 2, StableLM, Command R.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    attention_rules,
    bias_rules,
    feed_forward_rules,
    layer,
    norm_rules,
    outer_rules,
    qkv_bias_rules,
    with_switches,
)
from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.architectures.windows import window_fields
from convert.config import Config
from convert.gguf.header import boolean, f32

_EPSILON = "layer_norm_epsilon"  # llama.cpp's
# transformers computes Pythia's GELU exactly, ggml by its tanh approximation to 1e-3
_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu", "gelu_fast")

GPT2_DECODER = Decoder(
    name="gpt2",
    activations=_GELU,
    rope_types=("default",),
    has_free_head_dim=False,
    epsilon=("layer_norm_epsilon", _EPSILON),
    keys={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
        "intermediate_size": "n_inner",
        "hidden_act": "activation_function",
    },
    fixed={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    defaults={"layer_norm_epsilon": 1e-5, "tie_word_embeddings": True},
)
NEOX_DECODER = Decoder(
    name="gptneox",
    activations=("gelu", *_GELU),
    rope_types=("default", "linear"),
    rotates_part=True,
    has_free_head_dim=False,
    epsilon=("layer_norm_eps", _EPSILON),
    keys={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    fixed={"attention_bias": True, "tie_word_embeddings": False},
    defaults={
        "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.25,
        "tie_word_embeddings": False,
    },
)
STARCODER2_DECODER = Decoder(
    name="starcoder2",
    activations=("gelu_pytorch_tanh", *_GELU),
    has_free_head_dim=False,
    epsilon=("norm_epsilon", _EPSILON),
    slides=True,
    defaults={"norm_epsilon": 1e-5, "tie_word_embeddings": True},
)
STABLELM_DECODER = Decoder(
    name="stablelm",
    rope_types=("default",),
    rotates_part=True,
    has_free_head_dim=False,
    epsilon=("layer_norm_eps", _EPSILON),
    fixed={"tie_word_embeddings": False},
    defaults={
        "layer_norm_eps": 1e-5,
        "partial_rotary_factor": 0.25,
        "tie_word_embeddings": False,
    },
)
# transformers rotates adjacent rows here, as llama.cpp does
COMMAND_R_DECODER = Decoder(
    name="command-r",
    rope_types=("default",),
    has_free_head_dim=False,
    epsilon=("layer_norm_eps", _EPSILON),
    fixed={"attention_bias": False, "tie_word_embeddings": True},
    defaults={"layer_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": True},
)
COHERE2_DECODER = replace(
    COMMAND_R_DECODER,
    name="cohere2",
    knows_windows=True,
    default_window=4096,
    defaults={"layer_norm_eps": 1e-5, "tie_word_embeddings": True},
)

_OUTER_BIAS = TensorRule(target="output_norm.bias", source="model.norm.bias", shape=("hidden",))
_NORM_BIASES = bias_rules(
    ("attn_norm", "input_layernorm", "hidden"), ("ffn_norm", "post_attention_layernorm", "hidden")
)
_BIAS = "use_bias"
STARCODER2_RULES = (
    *outer_rules(),
    _OUTER_BIAS,
    *norm_rules(),
    *_NORM_BIASES,
    *attention_rules(),
    *qkv_bias_rules(needs=_BIAS),
    layer("ffn_up.weight", "mlp.c_fc.weight", ("feed_forward", "hidden")),
    layer("ffn_down.weight", "mlp.c_proj.weight", ("hidden", "feed_forward")),
    *bias_rules(
        ("attn_output", "self_attn.o_proj", "hidden"),
        ("ffn_up", "mlp.c_fc", "feed_forward"),
        ("ffn_down", "mlp.c_proj", "hidden"),
        needs=_BIAS,
    ),
)

_PARALLEL, _IN_TURN = "use_parallel_residual", "one after the other"
_STABLELM_QKV, _HEAD_NORMS = "use_qkv_bias", "qk_layernorm"
STABLELM_RULES = (
    *outer_rules(),
    _OUTER_BIAS,
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
    layer("attn_norm.bias", "input_layernorm.bias", ("hidden",)),
    layer("ffn_norm.weight", "post_attention_layernorm.weight", ("hidden",), needs=_IN_TURN),
    layer("ffn_norm.bias", "post_attention_layernorm.bias", ("hidden",), needs=_IN_TURN),
    *attention_rules(),
    *qkv_bias_rules(needs=_STABLELM_QKV),
    layer(
        "attn_q_norm.weight",
        "self_attn.q_layernorm.norms.{expert}.weight",
        ("heads", "head"),
        needs=_HEAD_NORMS,
    ),
    layer(
        "attn_k_norm.weight",
        "self_attn.k_layernorm.norms.{expert}.weight",
        ("kv_heads", "head"),
        needs=_HEAD_NORMS,
    ),
    *feed_forward_rules(),
)

COMMAND_R_RULES = (
    *outer_rules(),
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
    *attention_rules(),
    *feed_forward_rules(),
)

# names of the families' own, as those of the rules
GPT2_SPELLINGS = (
    (r"^(?:transformer\.)?wte\.weight$", "model.embed_tokens.weight"),
    (r"^(?:transformer\.)?wpe\.weight$", "model.positions.weight"),
    (r"^(?:transformer\.)?ln_f\.", "model.norm."),
    (r"^(?:transformer\.)?h\.", "model.layers."),
)


def _turned(target: str, source: str, rows: str, columns: str) -> TensorRule:
    """GPT-2 stores what goes in along the rows."""
    return layer(target, source, (rows, columns), Rows.TRANSPOSE)


GPT2_RULES = (
    *outer_rules(),
    _OUTER_BIAS,
    TensorRule(
        target="position_embd.weight",
        source="model.positions.weight",
        shape=("positions", "hidden"),
    ),
    layer("attn_norm.weight", "ln_1.weight", ("hidden",)),
    layer("ffn_norm.weight", "ln_2.weight", ("hidden",)),
    _turned("attn_qkv.weight", "attn.c_attn.weight", "hidden", "query_key_value"),
    _turned("attn_output.weight", "attn.c_proj.weight", "hidden", "hidden"),
    _turned("ffn_up.weight", "mlp.c_fc.weight", "hidden", "feed_forward"),
    _turned("ffn_down.weight", "mlp.c_proj.weight", "feed_forward", "hidden"),
    *bias_rules(
        ("attn_norm", "ln_1", "hidden"),
        ("ffn_norm", "ln_2", "hidden"),
        ("attn_qkv", "attn.c_attn", "query_key_value"),
        ("attn_output", "attn.c_proj", "hidden"),
        ("ffn_up", "mlp.c_fc", "feed_forward"),
        ("ffn_down", "mlp.c_proj", "hidden"),
    ),
)

NEOX_SPELLINGS = (
    (r"^(?:gpt_neox\.)?embed_in\.", "model.embed_tokens."),
    (r"^(?:gpt_neox\.)?final_layer_norm\.", "model.norm."),
    (r"^(?:gpt_neox\.)?layers\.", "model.layers."),
    (r"^embed_out\.", "lm_head."),
)
_QKV = "attention.query_key_value"
NEOX_RULES = (
    *outer_rules(),
    _OUTER_BIAS,
    *norm_rules(),
    *_NORM_BIASES,
    layer("attn_qkv.weight", f"{_QKV}.weight", ("query_key_value", "hidden"), order="heads"),
    layer("attn_qkv.bias", f"{_QKV}.bias", ("query_key_value",), order="heads"),
    layer("attn_output.weight", "attention.dense.weight", ("hidden", "hidden")),
    layer("ffn_up.weight", "mlp.dense_h_to_4h.weight", ("feed_forward", "hidden")),
    layer("ffn_down.weight", "mlp.dense_4h_to_h.weight", ("hidden", "feed_forward")),
    *bias_rules(
        ("attn_output", "attention.dense", "hidden"),
        ("ffn_up", "mlp.dense_h_to_4h", "feed_forward"),
        ("ffn_down", "mlp.dense_4h_to_h", "hidden"),
    ),
)


def read_gpt2(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.renamed(GPT2_DECODER.keys)
    config = config.with_defaults({"intermediate_size": 4 * config.integer("hidden_size")})
    hyper = replace(GPT2_DECODER, keys={}).read(_without_groups(config), tensor_names)
    sizes = {
        **hyper.sizes,
        "query_key_value": 3 * hyper.sizes["hidden"],
        "positions": config.integer("max_position_embeddings"),
    }
    # masks that old checkpoints saved along
    unused = (*hyper.unused, "model.layers.*.attn.bias", "model.layers.*.attn.masked_bias")
    return replace(hyper, sizes=sizes, unused=unused)


def read_neox(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    """Each head's query, key and value are together."""
    config = config.without("rope_theta")  # transformers only reads rotary_emb_base
    hyper = NEOX_DECODER.read(_without_groups(config), tensor_names)
    rows = np.arange(3 * hyper.sizes["hidden"]).reshape(hyper.num_heads, 3, hyper.head_dim)
    parallel = config.flag(_PARALLEL, True)
    return replace(
        hyper,
        sizes={**hyper.sizes, "query_key_value": rows.size},
        orders={"heads": rows.transpose(1, 0, 2).ravel()},
        fields=(*hyper.fields, boolean("gptneox.use_parallel_residual", parallel)),
        unused=(*hyper.unused, "*.attention.bias", "*.attention.masked_bias"),
    )


def _without_groups(config: Config) -> Config:
    """Each query head has keys and values of its own, whatever a config says."""
    return config.renamed({"num_key_value_heads": "num_attention_heads"})


def read_starcoder2(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    return with_switches(STARCODER2_DECODER.read(config, tensor_names), config, {_BIAS: True})


def read_stablelm(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = STABLELM_DECODER.read(config, tensor_names)
    switches = {_PARALLEL: False, _STABLELM_QKV: False, _HEAD_NORMS: False}
    hyper = with_switches(hyper, config, switches)
    is_parallel = _PARALLEL in hyper.features
    return replace(
        hyper,
        features=hyper.features | (frozenset() if is_parallel else {_IN_TURN}),
        sizes={**hyper.sizes, "heads": hyper.num_heads, "kv_heads": hyper.num_kv_heads},
        fields=(*hyper.fields, boolean("stablelm.use_parallel_residual", is_parallel)),
    )


def read_command_r(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    decoder = replace(COMMAND_R_DECODER, fixed={**COMMAND_R_DECODER.fixed, "use_qk_norm": False})
    hyper = decoder.read(config, tensor_names)
    scale = f32("command-r.logit_scale", config.number("logit_scale", 0.0625))
    return replace(hyper, fields=(*hyper.fields, scale))


def read_cohere2(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    if "sliding_window" not in config.values:
        config = config.with_defaults({"sliding_window": COHERE2_DECODER.default_window})
    hyper = COHERE2_DECODER.read(config, tensor_names)
    return replace(
        hyper,
        fields=(
            *hyper.fields,
            f32("cohere2.logit_scale", config.number("logit_scale", 0.0625)),
            *window_fields("cohere2", config, hyper.num_layers, usual_period=4),
        ),
    )


GPT2 = Family(
    name="gpt2",
    models="GPT-2, DistilGPT2",
    architectures=("GPT2LMHeadModel",),
    model_types=("gpt2",),
    rules=GPT2_RULES,
    read_config=read_gpt2,
    spellings=GPT2_SPELLINGS,
)
GPT_NEOX = Family(
    name="gptneox",
    models="Pythia, GPT-NeoX",
    architectures=("GPTNeoXForCausalLM",),
    model_types=("gpt_neox",),
    rules=NEOX_RULES,
    read_config=read_neox,
    spellings=NEOX_SPELLINGS,
)
STARCODER2 = Family(
    name="starcoder2",
    models="StarCoder 2",
    architectures=("Starcoder2ForCausalLM",),
    model_types=("starcoder2",),
    rules=STARCODER2_RULES,
    read_config=read_starcoder2,
    spellings=SPELLINGS,
)
STABLELM = Family(
    name="stablelm",
    models="StableLM 2, Zephyr 3B",
    architectures=("StableLmForCausalLM", "StableLMEpochForCausalLM"),
    model_types=("stablelm",),
    rules=STABLELM_RULES,
    read_config=read_stablelm,
    spellings=SPELLINGS,
)
COMMAND_R = Family(
    name="command-r",
    models="Command R (v01), Aya 23",
    architectures=("CohereForCausalLM",),
    model_types=("cohere",),
    rules=COMMAND_R_RULES,
    read_config=read_command_r,
    spellings=SPELLINGS,
)
COHERE2 = Family(
    name="cohere2",
    models="Command R7B and A",
    architectures=("Cohere2ForCausalLM",),
    model_types=("cohere2",),
    rules=COMMAND_R_RULES,
    read_config=read_cohere2,
    spellings=SPELLINGS,
)
