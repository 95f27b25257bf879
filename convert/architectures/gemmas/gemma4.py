"""Gemma 4: layers that see all have larger heads than those with a window; the small models
have a table of embeddings for each layer and share keys and values among the last layers, one
of the large ones has experts. Of the ones that see and hear, the part that writes.

Knows no tokenizers.

Source: modeling_gemma4.py of transformers, gemma4.cpp of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    feed_forward_rules,
    layer,
    outer_rules,
    with_fields,
)
from convert.architectures.experts import with_experts
from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.architectures.windows import FULL, SLIDING, window_kinds
from convert.config import Config, whole
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, boolean_array, f32, i32_array, u32
from convert.tensors import Computed, OutputTensor

NAME = "gemma4"
DECODER = Decoder(
    name=NAME,
    activations=("gelu_pytorch_tanh",),
    rope_types=("default",),
    knows_windows=True,
    fixed={"attention_bias": False, "tie_word_embeddings": True},
    defaults={
        "vocab_size": 262144,
        "head_dim": 256,
        "rms_norm_eps": 1e-6,
        "sliding_window": 512,
        "tie_word_embeddings": True,
    },
)
_UNROTATED = 1e30  # by which the frequencies are divided of dimensions that do not rotate

_KEYS, _VALUES = "keys of their own", "values of their own"
_PER_LAYER, _MOE = "embeddings for each layer", "experts"
RULES = (
    *outer_rules(),
    TensorRule(
        target="per_layer_token_embd.weight",
        source="model.embed_tokens_per_layer.weight",
        shape=("vocab", "all_layers"),
        needs=_PER_LAYER,
    ),
    TensorRule(
        target="per_layer_model_proj.weight",
        source="model.per_layer_model_projection.weight",
        shape=("all_layers", "hidden"),
        needs=_PER_LAYER,
    ),
    TensorRule(
        target="per_layer_proj_norm.weight",
        source="model.per_layer_projection_norm.weight",
        shape=("per_layer",),
        needs=_PER_LAYER,
    ),
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
    layer("post_attention_norm.weight", "post_attention_layernorm.weight", ("hidden",)),
    layer("ffn_norm.weight", "pre_feedforward_layernorm.weight", ("hidden",)),
    layer("post_ffw_norm.weight", "post_feedforward_layernorm.weight", ("hidden",)),
    layer("layer_output_scale.weight", "layer_scalar", ("one",)),
    layer("attn_q.weight", "self_attn.q_proj.weight", ("query", "hidden")),
    layer("attn_q_norm.weight", "self_attn.q_norm.weight", ("head",)),
    layer("attn_k.weight", "self_attn.k_proj.weight", ("key", "hidden"), needs=_KEYS),
    layer("attn_k_norm.weight", "self_attn.k_norm.weight", ("head",), needs=_KEYS),
    layer("attn_v.weight", "self_attn.v_proj.weight", ("key", "hidden"), needs=_VALUES),
    layer("attn_output.weight", "self_attn.o_proj.weight", ("hidden", "query")),
    *feed_forward_rules(),
    layer(
        "inp_gate.weight", "per_layer_input_gate.weight", ("per_layer", "hidden"), needs=_PER_LAYER
    ),
    layer("proj.weight", "per_layer_projection.weight", ("hidden", "per_layer"), needs=_PER_LAYER),
    layer("post_norm.weight", "post_per_layer_input_norm.weight", ("hidden",), needs=_PER_LAYER),
    *(
        replace(rule, needs=_MOE)
        for rule in (
            layer("ffn_gate_inp.weight", "router.proj.weight", ("experts", "hidden")),
            layer("ffn_gate_inp.scale", "router.scale", ("hidden",)),
            layer("ffn_down_exps.scale", "router.per_expert_scale", ("experts",)),
            layer("pre_ffw_norm_2.weight", "pre_feedforward_layernorm_2.weight", ("hidden",)),
            layer("post_ffw_norm_1.weight", "post_feedforward_layernorm_1.weight", ("hidden",)),
            layer("post_ffw_norm_2.weight", "post_feedforward_layernorm_2.weight", ("hidden",)),
            layer(
                "ffn_gate_up_exps.weight",
                "experts.gate_up_proj",
                ("experts", "gate_and_up", "hidden"),
            ),
            layer("ffn_down_exps.weight", "experts.down_proj", ("experts", "hidden", "expert")),
        )
    ),
)


@dataclass(frozen=True, kw_only=True)
class _Attention:
    """Of each layer."""

    kinds: Sequence[str]
    head_dim: int  # with a window
    full_head_dim: int
    kv_heads: Sequence[int]
    num_shared: int  # last layers that use the keys and values of layers before


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    # transformers only reads those of each kind of layer, in rope_parameters
    text = config.without("rope_theta").with_defaults(DECODER.defaults)
    if "hidden_size_per_layer_input" not in text.values:  # null means that there are none
        text = text.with_defaults({"hidden_size_per_layer_input": 256})
    if text.values.get("use_bidirectional_attention") == "all":
        raise UnsupportedModel(
            f"{text.path} has use_bidirectional_attention = all; llama.cpp's gemma4 looks back."
        )
    plain = {key: value for key, value in text.values.items() if not key.startswith("rope_")}
    hyper = DECODER.read(Config(text.path, plain), tensor_names)
    attention = _attention(text, hyper)
    per_layer = whole(text.values.get("hidden_size_per_layer_input") or 0)
    if type(per_layer) is not int or per_layer < 0:
        raise DamagedCheckpoint(f"{text.path} has hidden_size_per_layer_input = {per_layer!r}.")
    shared = range(hyper.num_layers - attention.num_shared, hyper.num_layers)
    hyper = replace(
        hyper,
        num_kv_heads=attention.kv_heads[0],
        features=hyper.features | ({_PER_LAYER} if per_layer else frozenset()),
        sizes={
            **hyper.sizes,
            "per_layer": per_layer,
            "all_layers": per_layer * hyper.num_layers,
        },
        layer_features=_layer_features(text, attention, shared),
        layer_sizes=_layer_sizes(text, hyper, attention, shared),
        computed=(_divisors(text, attention.full_head_dim),),
        unused=(*hyper.unused, *_left_of(shared)),
    )
    if text.flag("enable_moe_block", False):
        hyper = _with_experts(text, hyper)
    return with_fields(hyper, *_fields(text, hyper, attention, per_layer))


def _attention(config: Config, hyper: Hyperparameters) -> _Attention:
    kinds = window_kinds(config, hyper.num_layers, usual_period=6)
    kinds = [*kinds[:-1], FULL]  # as transformers has it, whatever the config says
    first = next((index for index, kind in enumerate(kinds) if kind == FULL), 0)
    # transformers 5 writes what differs from the other layers under each layer's number
    own = config.section("per_layer_config").section(str(first))
    full_heads = hyper.num_kv_heads
    if config.flag("attention_k_eq_v", False):
        full_heads = config.integer("num_global_key_value_heads", full_heads)
    full_heads = own.integer("num_key_value_heads", full_heads)
    num_shared = whole(config.values.get("num_kv_shared_layers") or 0)
    if type(num_shared) is not int or not 0 <= num_shared < hyper.num_layers:
        raise DamagedCheckpoint(f"{config.path} has num_kv_shared_layers = {num_shared!r}.")
    return _Attention(
        kinds=kinds,
        head_dim=hyper.head_dim,
        full_head_dim=own.integer("head_dim", config.integer("global_head_dim", 512)),
        kv_heads=[full_heads if kind == FULL else hyper.num_kv_heads for kind in kinds],
        num_shared=num_shared,
    )


def _layer_features(
    config: Config, attention: _Attention, shared: range
) -> tuple[frozenset[str], ...]:
    one_matrix = config.flag("attention_k_eq_v", False)  # for keys and values
    features = []
    for index, kind in enumerate(attention.kinds):
        own = set() if index in shared else {_KEYS}
        if index not in shared and not (one_matrix and kind == FULL):
            own.add(_VALUES)
        features.append(frozenset(own))
    return tuple(features)


def _layer_sizes(
    config: Config, hyper: Hyperparameters, attention: _Attention, shared: range
) -> tuple[dict[str, int], ...]:
    is_wide = config.flag("use_double_wide_mlp", False)
    sizes = []
    for index, kind in enumerate(attention.kinds):
        head = attention.full_head_dim if kind == FULL else attention.head_dim
        wider = 2 if is_wide and index in shared else 1
        sizes.append(
            {
                "head": head,
                "query": hyper.num_heads * head,
                "key": attention.kv_heads[index] * head,
                "feed_forward": wider * hyper.sizes["feed_forward"],
            }
        )
    return tuple(sizes)


def _left_of(shared: range) -> list[str]:
    """Keys and values that published checkpoints hold and nobody computes with."""
    parts = ("k_proj.weight", "v_proj.weight", "k_norm.weight")
    return [f"model.layers.{index}.self_attn.{part}" for index in shared for part in parts]


def _divisors(config: Config, head_dim: int) -> OutputTensor:
    """Of the layers that see all: the first part of each half of a head rotates
    (`proportional` in modeling_rope_utils.py).
    """
    rope = config.rope
    if rope.text("rope_type") not in ("proportional", "default"):
        raise UnsupportedModel(
            f"{rope.path}: rope scaling {rope.text('rope_type')!r} cannot be converted for gemma4."
        )
    part = rope.number("partial_rotary_factor", 0.25)
    values = np.full(head_dim // 2, _UNROTATED, np.float32)
    values[: int(part * head_dim // 2)] = 1.0
    return OutputTensor("rope_freqs.weight", (len(values),), Computed(values))


def _with_experts(config: Config, hyper: Hyperparameters) -> Hyperparameters:
    hyper = with_experts(
        NAME,
        hyper,
        config.renamed({"num_experts_per_tok": "top_k_experts"}),
        "moe_intermediate_size",
    )
    size = hyper.sizes["expert"]
    return replace(
        hyper,
        features=hyper.features | {_MOE},
        sizes={**hyper.sizes, "gate_and_up": 2 * size},
        fields=(*hyper.fields, u32(f"{NAME}.expert_feed_forward_length", size)),
    )


def _fields(
    config: Config, hyper: Hyperparameters, attention: _Attention, per_layer: int
) -> list[Field]:
    prefix, full = f"{NAME}.attention", attention.full_head_dim
    sliding = config.sliding_rope
    fields = [
        i32_array(f"{prefix}.head_count_kv", attention.kv_heads),
        u32(f"{prefix}.key_length", full),
        u32(f"{prefix}.value_length", full),
        u32(f"{prefix}.key_length_swa", attention.head_dim),
        u32(f"{prefix}.value_length_swa", attention.head_dim),
        u32(f"{prefix}.shared_kv_layers", attention.num_shared),
        u32(f"{prefix}.sliding_window", config.integer("sliding_window")),
        boolean_array(
            f"{prefix}.sliding_window_pattern", [kind == SLIDING for kind in attention.kinds]
        ),
        i32_array(
            f"{NAME}.feed_forward_length", [own["feed_forward"] for own in hyper.layer_sizes]
        ),
        u32(f"{NAME}.embedding_length_per_layer_input", per_layer),
        u32(f"{NAME}.rope.dimension_count", full),
        u32(f"{NAME}.rope.dimension_count_swa", attention.head_dim),
        f32(f"{NAME}.rope.freq_base", config.rope.number("rope_theta", 1000000.0)),
        f32(f"{NAME}.rope.freq_base_swa", sliding.number("rope_theta", 10000.0)),
    ]
    # without a field, llama.cpp takes 30
    is_capped = "final_logit_softcapping" in config
    cap = config.number("final_logit_softcapping") if is_capped else 0.0
    return [*fields, f32(f"{NAME}.final_logit_softcapping", cap)]


GEMMA4 = Family(
    name=NAME,
    models="Gemma 4",
    architectures=("Gemma4ForCausalLM",),
    model_types=("gemma4_text",),
    rules=RULES,
    read_config=read_config,
    spellings=(
        (
            r"^(embed_tokens_per_layer|per_layer_model_projection|per_layer_projection_norm)\.",
            r"model.\1.",
        ),
        *SPELLINGS,
    ),
)
