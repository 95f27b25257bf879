"""LFM2, dense and with a mixture of experts: short convolutions between layers with attention.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import (
    EMBEDDING,
    SPELLINGS,
    Decoder,
    layer,
    outer_rules,
    with_fields,
)
from convert.architectures.experts import expert_rules, with_experts
from convert.architectures.family import Family, Hyperparameters, TensorRule
from convert.architectures.layer_types import layer_types
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import f32, i32_array, u32

CONV, FULL = "conv", "full_attention"
_SIGMOID = 2  # of llama.cpp's functions by which a router weighs

DECODER = Decoder(
    name="lfm2",
    rope_types=("default",),
    has_free_head_dim=False,
    epsilon=("norm_eps", "layer_norm_rms_epsilon"),
    fixed={"conv_bias": False},
    defaults={
        "norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "conv_L_cache": 3,
        "tie_word_embeddings": True,
    },
)
MOE_DECODER = replace(
    DECODER,
    name="lfm2moe",
    fixed={
        "conv_bias": False,
        "use_expert_bias": True,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,  # llama.cpp does not read it
    },
)

_OUTER = (
    *(rule for rule in outer_rules() if rule.target != "output_norm.weight"),
    # under this name by an oversight that files keep to
    TensorRule(
        target="token_embd_norm.weight", source="model.embedding_norm.weight", shape=("hidden",)
    ),
)
_MIXER_RULES = (
    layer("attn_norm.weight", "operator_norm.weight", ("hidden",)),
    layer("ffn_norm.weight", "ffn_norm.weight", ("hidden",)),
    layer("attn_q.weight", "self_attn.q_proj.weight", ("query", "hidden"), needs=FULL),
    layer("attn_k.weight", "self_attn.k_proj.weight", ("key", "hidden"), needs=FULL),
    layer("attn_v.weight", "self_attn.v_proj.weight", ("key", "hidden"), needs=FULL),
    layer("attn_output.weight", "self_attn.out_proj.weight", ("hidden", "query"), needs=FULL),
    layer("attn_q_norm.weight", "self_attn.q_layernorm.weight", ("head",), needs=FULL),
    layer("attn_k_norm.weight", "self_attn.k_layernorm.weight", ("head",), needs=FULL),
    layer(
        "shortconv.conv.weight",
        "conv.conv.weight",
        ("hidden", "one", "kernel"),
        needs=CONV,
        becomes=("hidden", "kernel"),
    ),
    layer("shortconv.in_proj.weight", "conv.in_proj.weight", ("mixed", "hidden"), needs=CONV),
    layer("shortconv.out_proj.weight", "conv.out_proj.weight", ("hidden", "hidden"), needs=CONV),
)
_DENSE, _MOE = "dense feed-forward", "experts"
_DENSE_RULES = (
    layer("ffn_gate.weight", "feed_forward.w1.weight", ("feed_forward", "hidden"), needs=_DENSE),
    layer("ffn_up.weight", "feed_forward.w3.weight", ("feed_forward", "hidden"), needs=_DENSE),
    layer("ffn_down.weight", "feed_forward.w2.weight", ("hidden", "feed_forward"), needs=_DENSE),
)
_MOE_RULES = (
    *(
        replace(rule, needs=_MOE)
        for rule in expert_rules("feed_forward", gate="w1", up="w3", down="w2")
    ),
    layer("exp_probs_b.bias", "feed_forward.expert_bias", ("experts",), needs=_MOE),
)


def read_dense(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.renamed(
        {"intermediate_size": "block_ff_dim", "tie_word_embeddings": "tie_embedding"}
    )
    config = Config(config.path, {**config.values, "intermediate_size": _feed_forward(config)})
    return _read(DECODER, config, tensor_names, num_dense=config.integer("num_hidden_layers"))


def read_moe(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.renamed({"tie_word_embeddings": "tie_embedding"})
    num_dense = config.values.get("num_dense_layers", 2)
    if type(num_dense) is not int or num_dense < 0:
        raise DamagedCheckpoint(f"{config.path} has num_dense_layers = {num_dense!r}.")
    hyper = _read(MOE_DECODER, config, tensor_names, num_dense)
    name = MOE_DECODER.name
    hyper = with_experts(name, hyper, config, "moe_intermediate_size")
    return with_fields(
        hyper,
        u32(f"{name}.expert_feed_forward_length", hyper.sizes["expert"]),
        u32(f"{name}.leading_dense_block_count", num_dense),
        u32(f"{name}.expert_gating_func", _SIGMOID),
        f32(f"{name}.expert_weights_scale", config.number("routed_scaling_factor", 1.0)),
    )


def _read(
    decoder: Decoder, config: Config, tensor_names: frozenset[str], num_dense: int
) -> Hyperparameters:
    config = config.with_defaults(decoder.defaults)
    if EMBEDDING not in tensor_names:
        raise UnsupportedModel(f"{config.path}: the checkpoint has no {EMBEDDING}.")
    hyper = decoder.read(config, tensor_names)
    kinds = _kinds(config, hyper.num_layers)
    heads = [hyper.num_kv_heads if kind == FULL else 0 for kind in kinds]
    kernel = config.integer("conv_L_cache")
    hyper = replace(
        hyper,
        num_kv_heads=heads[0],
        sizes={**hyper.sizes, "kernel": kernel, "mixed": 3 * hyper.sizes["hidden"]},
        layer_features=tuple(
            frozenset({kind, _DENSE if index < num_dense else _MOE})
            for index, kind in enumerate(kinds)
        ),
    )
    return with_fields(
        hyper,
        i32_array(f"{decoder.name}.attention.head_count_kv", heads),
        u32(f"{decoder.name}.shortconv.l_cache", kernel),
    )


def _kinds(config: Config, num_layers: int) -> list[str]:
    """The first releases list the layers with attention by their numbers."""
    full = config.values.get("full_attn_idxs")
    listed = range(num_layers) if not isinstance(full, list) else full
    default = [FULL if index in listed else CONV for index in range(num_layers)]
    return layer_types(config, num_layers, (CONV, FULL), default)


def _feed_forward(config: Config) -> int:
    """The inner size; the config's is before it was adjusted (`Lfm2MLP` of transformers)."""
    size = config.integer("intermediate_size")
    if not config.flag("block_auto_adjust_ff_dim", True):
        return size
    size = int(config.number("block_ffn_dim_multiplier", 1.0) * int(2 * size / 3))
    multiple = config.integer("block_multiple_of", 256)
    return multiple * ((size + multiple - 1) // multiple)


LFM2 = Family(
    name="lfm2",
    models="LFM2 without experts",
    architectures=("Lfm2ForCausalLM", "LFM2ForCausalLM"),
    model_types=("lfm2",),
    rules=(*_OUTER, *_MIXER_RULES, *_DENSE_RULES),
    read_config=read_dense,
    spellings=((r"^embedding_norm\.", "model.embedding_norm."), *SPELLINGS),
)
LFM2_MOE = Family(
    name="lfm2moe",
    models="LFM2 with experts",
    architectures=("Lfm2MoeForCausalLM",),
    model_types=("lfm2_moe",),
    rules=(*_OUTER, *_MIXER_RULES, *_DENSE_RULES, *_MOE_RULES),
    read_config=read_moe,
    spellings=((r"^embedding_norm\.", "model.embedding_norm."), *SPELLINGS),
)
