"""DeepSeek V2 and V3 (R1, Kimi K2's shape): attention through a small latent (MLA), and a
mixture of experts.

Knows no tokenizers.

llama.cpp keeps the latent in its cache, as one head of keys and values, and multiplies by
the two halves of `kv_b_proj` outside of it: the keys' half turned on its side.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.architectures.decoder import (
    SPELLINGS,
    Decoder,
    bias_rules,
    feed_forward_rules,
    layer,
    norm_rules,
    outer_rules,
    with_fields,
)
from convert.architectures.experts import routed_expert_rules
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.architectures.mixtures.glm4_moe import SPELLINGS_OF_BIASES
from convert.architectures.mixtures.routing import (
    DENSE,
    MOE,
    SIGMOID,
    SOFTMAX,
    needing,
    with_routing,
)
from convert.architectures.rope import scaled_context
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, f32, string, u32

NAME = "deepseek2"
DECODER = Decoder(
    name=NAME,
    rope_types=("default",),
    fixed={"attention_bias": False, "tie_word_embeddings": False, "rope_interleave": True},
    defaults={"rms_norm_eps": 1e-6, "kv_lora_rank": 512, "tie_word_embeddings": False},
)
_USUAL_LATENT = 1536  # where config.json has no q_lora_rank
LITE_LAYERS = (26, 27)  # llama.cpp takes models of so many layers for those without q_lora_rank

_Q_LATENT, _Q_PLAIN, _CORRECTED = "query latent", "query", "corrected choice"
RULES = (
    *outer_rules(),
    *norm_rules(),
    layer("attn_q.weight", "self_attn.q_proj.weight", ("query", "hidden"), needs=_Q_PLAIN),
    layer("attn_q_a.weight", "self_attn.q_a_proj.weight", ("q_lora", "hidden"), needs=_Q_LATENT),
    layer("attn_q_b.weight", "self_attn.q_b_proj.weight", ("query", "q_lora"), needs=_Q_LATENT),
    layer("attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight", ("q_lora",), needs=_Q_LATENT),
    layer("attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", ("kv_a", "hidden")),
    layer("attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", ("kv_lora",)),
    layer(
        "attn_k_b.weight",
        "self_attn.kv_b_proj.weight",
        ("kv_b", "kv_lora"),
        Rows.TRANSPOSE,
        order="keys",
        becomes=("heads", "kv_lora", "nope"),
    ),
    layer(
        "attn_v_b.weight",
        "self_attn.kv_b_proj.weight",
        ("kv_b", "kv_lora"),
        order="values",
        becomes=("heads", "value_head", "kv_lora"),
    ),
    layer("attn_output.weight", "self_attn.o_proj.weight", ("hidden", "values")),
    *needing(DENSE, feed_forward_rules()),
    *routed_expert_rules(MOE),
    *(
        replace(rule, needs=_CORRECTED)
        for rule in bias_rules(("exp_probs_b", "mlp.gate.e_score_correction", "experts"))
    ),
)


def read_v3(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.with_defaults(
        {"routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4, "norm_topk_prob": True}
    )
    hyper = _read(config, tensor_names)
    hyper = with_routing(NAME, hyper, config, default_dense=3, gating=SIGMOID)
    features = tuple(
        kinds | ({_CORRECTED} if MOE in kinds else frozenset()) for kinds in hyper.layer_features
    )
    groups, used = config.integer("n_group"), config.integer("topk_group")
    if groups > 1 and (hyper.num_experts % groups or hyper.num_experts == groups or used > groups):
        raise DamagedCheckpoint(
            f"{config.path} chooses from {used} of {groups} groups of {hyper.num_experts} experts: "
            "each group must have the same number of them, and more than one."
        )
    fields = (
        (u32(f"{NAME}.expert_group_count", groups), u32(f"{NAME}.expert_group_used_count", used))
        if used < groups  # else the choice is among all
        else ()
    )
    return with_fields(replace(hyper, layer_features=features), *fields)


def read_v2(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    """V2's router takes the softmax; only its Lite chooses among all experts at once."""
    method = config.text("topk_method", "greedy")
    if method != "greedy" and config.integer("n_group", 1) > 1:
        raise UnsupportedModel(
            f"{config.path} has topk_method = {method} with {config.integer('n_group')} groups; "
            "llama.cpp's deepseek2 chooses groups otherwise than DeepSeek V2 does."
        )
    if config.flag("norm_topk_prob", False):
        raise UnsupportedModel(
            f"{config.path} has norm_topk_prob = true: of DeepSeek V2, its publisher's code then "
            "divides the experts' weights by their sum in place of scaling them, transformers "
            "does not, and llama.cpp's deepseek2 would do both. If the model was trained without "
            "it, set it to false."
        )
    config = config.with_defaults({"n_shared_experts": 2})
    hyper = _read(config, tensor_names)
    return with_routing(NAME, hyper, config, default_dense=0, gating=SOFTMAX, default_norm=False)


def _read(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = config.with_defaults(DECODER.defaults)
    fields, context = _rope_fields(config)
    nope, rotated = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim")
    value, latent = config.integer("v_head_dim"), config.integer("kv_lora_rank")
    plain = {key: item for key, item in config.values.items() if not key.startswith("rope_")}
    plain |= {
        "rope_theta": config.rope.number("rope_theta", 10000.0),
        "max_position_embeddings": context,
        "head_dim": nope + rotated,
        "num_key_value_heads": None,  # of its own for each query head, out of the latent
    }
    if "rope_interleave" in config.values:
        plain["rope_interleave"] = config.values["rope_interleave"]
    hyper = DECODER.read(Config(config.path, plain), tensor_names)
    # null means that there is none
    has_latent = config.values.get("q_lora_rank", _USUAL_LATENT) is not None
    q_lora = config.integer("q_lora_rank", _USUAL_LATENT) if has_latent else 0
    if (q_lora == 0) != (hyper.num_layers in LITE_LAYERS) and q_lora:
        raise UnsupportedModel(
            f"{config.path} has {hyper.num_layers} layers and a q_lora_rank; llama.cpp takes "
            "models of so many layers for those without one."
        )
    heads = hyper.num_heads
    rows = np.arange(heads * (nope + value)).reshape(heads, nope + value)
    hyper = replace(
        hyper,
        num_kv_heads=1,
        features=hyper.features | {_Q_LATENT if q_lora else _Q_PLAIN},
        sizes={
            **hyper.sizes,
            "heads": heads,
            "q_lora": q_lora,
            "kv_lora": latent,
            "kv_a": latent + rotated,
            "kv_b": rows.size,
            "nope": nope,
            "value_head": value,
            "values": heads * value,
        },
        orders={"keys": rows[:, :nope].ravel(), "values": rows[:, nope:].ravel()},
    )
    if q_lora:
        fields = (*fields, u32(f"{NAME}.attention.q_lora_rank", q_lora))
    return with_fields(
        hyper,
        *fields,
        u32(f"{NAME}.attention.head_count_kv", 1),
        u32(f"{NAME}.attention.kv_lora_rank", latent),
        u32(f"{NAME}.attention.key_length", latent + rotated),
        u32(f"{NAME}.attention.value_length", latent),
        u32(f"{NAME}.attention.key_length_mla", nope + rotated),
        u32(f"{NAME}.attention.value_length_mla", value),
        u32(f"{NAME}.rope.dimension_count", rotated),
    )


def _rope_fields(config: Config) -> tuple[tuple[Field, ...], int]:
    """Fields of the rotation's scaling, and the context.

    transformers multiplies scores by the square of yarn's magnitude with `mscale_all_dim`
    where llama.cpp multiplies by that of its logarithm's factor.
    """
    rope, length = config.rope, config.integer("max_position_embeddings")
    kind = rope.text("rope_type")
    if kind == "default":
        return (), length
    mscale, of_all = rope.values.get("mscale"), rope.values.get("mscale_all_dim")
    if kind != "yarn" or not mscale or mscale != of_all:
        raise UnsupportedModel(
            f"{rope.path}: only yarn with mscale = mscale_all_dim is converted for deepseek2; it "
            f"has {kind} with {mscale} and {of_all}."
        )
    original = rope.integer("original_max_position_embeddings", length)
    fields = (
        string(f"{NAME}.rope.scaling.type", "yarn"),
        f32(f"{NAME}.rope.scaling.factor", rope.number("factor")),
        u32(f"{NAME}.rope.scaling.original_context_length", original),
        f32(f"{NAME}.rope.scaling.yarn_log_multiplier", 0.1 * rope.number("mscale_all_dim")),
    )
    return fields, scaled_context(rope, length)[0]


DEEPSEEK_V2 = Family(
    name=NAME,
    models="DeepSeek V2 Lite",
    architectures=("DeepseekV2ForCausalLM",),
    model_types=("deepseek_v2",),
    rules=RULES,
    read_config=read_v2,
    spellings=(*SPELLINGS_OF_BIASES, *SPELLINGS),
)
DEEPSEEK_V3 = Family(
    name=NAME,
    models="DeepSeek V3 and R1 (unquantized)",
    architectures=("DeepseekV3ForCausalLM",),
    model_types=("deepseek_v3",),
    rules=RULES,
    read_config=read_v3,
    spellings=(*SPELLINGS_OF_BIASES, *SPELLINGS),
)
