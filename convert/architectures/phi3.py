"""Phi 3, 3.5 and 4 (dense): fused projections, LongRoPE in some.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import SPELLINGS, Decoder, layer, norm_rules, outer_rules
from convert.architectures.family import Family, Hyperparameters
from convert.architectures.rope import longrope_attention_factor, longrope_divisors
from convert.config import Config
from convert.gguf.header import f32, u32

DECODER = Decoder(
    name="phi3",
    rope_types=("default", "longrope"),
    rotates_part=True,
    has_free_head_dim=False,
    slides=True,
    defaults={"original_max_position_embeddings": 4096},
)

RULES = (
    *outer_rules(),
    *norm_rules(),
    # llama.cpp takes both fused matrices as they are: query, key and value; gate and
    # up.
    layer("attn_qkv.weight", "self_attn.qkv_proj.weight", ("query_key_value", "hidden")),
    layer("attn_output.weight", "self_attn.o_proj.weight", ("hidden", "query")),
    layer("ffn_up.weight", "mlp.gate_up_proj.weight", ("gate_and_up", "hidden")),
    layer("ffn_down.weight", "mlp.down_proj.weight", ("hidden", "feed_forward")),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    config = _with_longrope_by_name(config.with_defaults(DECODER.defaults))
    hyper = DECODER.read(config, tensor_names)
    sizes = {
        **hyper.sizes,
        "query_key_value": hyper.sizes["query"] + 2 * hyper.sizes["key"],
        "gate_and_up": 2 * hyper.sizes["feed_forward"],
    }
    hyper = replace(hyper, sizes=sizes)
    if config.rope.text("rope_type") != "longrope":
        return hyper
    # as transformers does, also where `rope_parameters` says something else
    original = config.integer("original_max_position_embeddings")
    attention_factor = longrope_attention_factor(
        config.rope, config.integer("max_position_embeddings"), original
    )
    num_rotated = int(hyper.head_dim * config.rope.number("partial_rotary_factor", 1.0))
    return replace(
        hyper,
        computed=longrope_divisors(config.rope, num_rotated),
        fields=(
            *hyper.fields,
            u32("phi3.rope.scaling.original_context_length", original),
            f32("phi3.rope.scaling.attn_factor", attention_factor),
        ),
    )


def _with_longrope_by_name(config: Config) -> Config:
    """The first releases call LongRoPE "su", some "yarn"; `Phi3Config` of transformers
    reads both as LongRoPE.
    """
    scaling = config.section("rope_scaling").values
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind not in ("su", "yarn"):
        return config
    return Config(
        config.path, {**config.values, "rope_scaling": {**scaling, "rope_type": "longrope"}}
    )


PHI3 = Family(
    name="phi3",
    models="Phi 3, 3.5 and 4 without experts",
    architectures=("Phi3ForCausalLM",),
    model_types=("phi3",),
    rules=RULES,
    read_config=read_config,
    spellings=SPELLINGS,
)
