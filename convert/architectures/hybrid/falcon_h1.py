"""Falcon H1: attention and a state (Mamba 2) side by side in every layer. What its config
multiplies activations by, llama.cpp has in the weights.

Knows no tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from convert.architectures.arrangement import Factors
from convert.architectures.decoder import EMBEDDING, HEAD, SPELLINGS, Decoder, layer, with_fields
from convert.architectures.family import Family, Hyperparameters, Rows, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint
from convert.gguf.header import u32

NAME = "falcon-h1"
DECODER = Decoder(
    name=NAME,
    fixed={
        "attention_bias": False,
        "mlp_bias": False,
        "projectors_bias": False,
        "mamba_proj_bias": False,
        "mamba_conv_bias": True,
        "mamba_rms_norm": False,
    },
    defaults={"mamba_rms_norm": False, "mamba_conv_bias": True},
)


def _scaled(rule: TensorRule, scale: str) -> TensorRule:
    return replace(rule, scale=scale)


RULES = (
    TensorRule(
        target="token_embd.weight", source=EMBEDDING, shape=("vocab", "hidden"), scale="embedding"
    ),
    # the embedding is multiplied by another number where it is the output too
    TensorRule(
        target="output.weight",
        source=EMBEDDING,
        shape=("vocab", "hidden"),
        needs="shared output",
        scale="head",
    ),
    TensorRule(
        target="output.weight",
        source=HEAD,
        shape=("vocab", "hidden"),
        needs="own output",
        scale="head",
    ),
    TensorRule(
        target="output_norm.weight", source="model.final_layernorm.weight", shape=("hidden",)
    ),
    layer("attn_norm.weight", "input_layernorm.weight", ("hidden",)),
    layer("ffn_norm", "pre_ff_layernorm.weight", ("hidden",)),  # without a suffix in llama.cpp
    _scaled(layer("attn_q.weight", "self_attn.q_proj.weight", ("query", "hidden")), "attention"),
    _scaled(layer("attn_k.weight", "self_attn.k_proj.weight", ("key", "hidden")), "key"),
    _scaled(layer("attn_v.weight", "self_attn.v_proj.weight", ("key", "hidden")), "attention"),
    _scaled(
        layer("attn_output.weight", "self_attn.o_proj.weight", ("hidden", "query")),
        "attention output",
    ),
    _scaled(layer("ssm_in.weight", "mamba.in_proj.weight", ("state_in", "hidden")), "state"),
    layer(
        "ssm_conv1d.weight",
        "mamba.conv1d.weight",
        ("state_mixed", "one", "kernel"),
        becomes=("state_mixed", "kernel"),
    ),
    layer("ssm_conv1d.bias", "mamba.conv1d.bias", ("state_mixed",)),
    layer("ssm_dt.bias", "mamba.dt_bias", ("state_heads",)),
    layer(
        "ssm_a", "mamba.A_log", ("state_heads",), Rows.NEGATED_EXP, becomes=("state_heads", "one")
    ),
    layer("ssm_d", "mamba.D", ("state_heads",), becomes=("state_heads", "one")),
    _scaled(
        layer("ssm_out.weight", "mamba.out_proj.weight", ("hidden", "state_values")),
        "state output",
    ),
    _scaled(
        layer("ffn_gate.weight", "feed_forward.gate_proj.weight", ("feed_forward", "hidden")),
        "gate",
    ),
    layer("ffn_up.weight", "feed_forward.up_proj.weight", ("feed_forward", "hidden")),
    _scaled(
        layer("ffn_down.weight", "feed_forward.down_proj.weight", ("hidden", "feed_forward")),
        "down",
    ),
)


def read_config(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hyper = DECODER.read(config, tensor_names)
    heads, state = config.integer("mamba_n_heads", 128), config.integer("mamba_d_state", 256)
    inner, groups = config.integer("mamba_d_ssm", 1024), config.integer("mamba_n_groups", 1)
    kernel = config.integer("mamba_d_conv", 4)
    sections = (inner, inner, groups * state, groups * state, heads)
    sizes = {
        "state_heads": heads,
        "state_values": inner,
        "state_mixed": inner + 2 * groups * state,
        "state_in": sum(sections),
        "kernel": kernel,
    }
    hyper = replace(
        hyper, sizes={**hyper.sizes, **sizes}, scales=_scales(config, sections), copies={}
    )
    if HEAD in tensor_names and "shared output" in hyper.features:
        hyper = replace(hyper, copies={HEAD: EMBEDDING})
    return with_fields(
        hyper,
        u32(f"{NAME}.ssm.conv_kernel", kernel),
        u32(f"{NAME}.ssm.inner_size", inner),
        u32(f"{NAME}.ssm.state_size", state),
        u32(f"{NAME}.ssm.time_step_rank", heads),
        u32(f"{NAME}.ssm.group_count", groups),
    )


def _scales(config: Config, sections: tuple[int, ...]) -> Mapping[str, Factors]:
    """By which weights are multiplied; the state's differ by sections of its input."""
    into = config.number("attention_in_multiplier", 1.0)
    gate, down = _numbers(config, "mlp_multipliers", 2)
    of_sections = np.repeat(_numbers(config, "ssm_multipliers", len(sections)), sections)
    return {
        "embedding": np.float32(config.number("embedding_multiplier", 1.0)),
        "head": np.float32(config.number("lm_head_multiplier", 1.0)),
        "attention": np.float32(into),
        "key": np.float32(into * config.number("key_multiplier", 1.0)),
        "attention output": np.float32(config.number("attention_out_multiplier", 1.0)),
        "state": (of_sections * config.number("ssm_in_multiplier", 1.0)).astype(np.float32),
        "state output": np.float32(config.number("ssm_out_multiplier", 1.0)),
        "gate": np.float32(gate),
        "down": np.float32(down),
    }


def _numbers(config: Config, key: str, count: int) -> list[float]:
    values = config.values.get(key) or [1.0] * count
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(isinstance(value, int | float) for value in values)
    ):
        raise DamagedCheckpoint(f"{config.path} has {key} that are not a list of {count} numbers.")
    return [float(value) for value in values]


FALCON_H1 = Family(
    name=NAME,
    models="Falcon H1",
    architectures=("FalconH1ForCausalLM",),
    model_types=("falcon_h1",),
    rules=RULES,
    read_config=read_config,
    spellings=((r"^final_layernorm\.", "model.final_layernorm."), *SPELLINGS),
)
