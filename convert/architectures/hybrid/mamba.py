"""Mamba and Mamba 2: states alone, without attention.

Knows no tokenizers.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import EMBEDDING, HEAD, is_tied, layer, outer_rules
from convert.architectures.family import Family, Hyperparameters, Rows
from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.gguf.header import Field, boolean, f32, u32

CONTEXT = 1 << 20  # nothing in these models ends with it; llama.cpp's converter says so too

SPELLINGS = (
    (r"^(?:model\.)?backbone\.embeddings?\.", "model.embed_tokens."),
    (r"^(?:model\.)?backbone\.norm_f\.", "model.norm."),
    (r"^(?:model\.)?backbone\.layers\.", "model.layers."),
    (r"^model\.lm_head\.", "lm_head."),
)
_CONV = layer("ssm_conv1d.weight", "mixer.conv1d.weight", ("mixed", "one", "kernel"))
_COMMON = (
    *outer_rules(),
    layer("attn_norm.weight", "norm.weight", ("hidden",)),
    layer("ssm_in.weight", "mixer.in_proj.weight", ("in", "hidden")),
    replace(_CONV, becomes=("mixed", "kernel")),
    layer("ssm_conv1d.bias", "mixer.conv1d.bias", ("mixed",)),
    layer("ssm_out.weight", "mixer.out_proj.weight", ("hidden", "inner")),
)
MAMBA_RULES = (
    *_COMMON,
    layer("ssm_x.weight", "mixer.x_proj.weight", ("x", "inner")),
    layer("ssm_dt.weight", "mixer.dt_proj.weight", ("inner", "rank")),
    layer("ssm_dt.bias", "mixer.dt_proj.bias", ("inner",)),
    layer("ssm_a", "mixer.A_log", ("inner", "state"), Rows.NEGATED_EXP),
    layer("ssm_d", "mixer.D", ("inner",)),
)
MAMBA2_RULES = (
    *_COMMON,
    layer("ssm_dt.bias", "mixer.dt_bias", ("heads",)),
    layer("ssm_a", "mixer.A_log", ("heads",), Rows.NEGATED_EXP, becomes=("heads", "one")),
    layer("ssm_d", "mixer.D", ("heads",), becomes=("heads", "one")),
    layer("ssm_norm.weight", "mixer.norm.weight", ("inner",), becomes=("groups", "group")),
)


def read_mamba(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hidden = config.integer("hidden_size")
    inner = config.integer("intermediate_size", config.integer("expand", 2) * hidden)
    if inner != 2 * hidden:
        raise UnsupportedModel(
            f"{config.path} has an inner size of {inner}; llama.cpp's mamba only supports twice "
            f"hidden_size {hidden}."
        )
    rank = config.values.get("time_step_rank", "auto")
    rank = -(-hidden // 16) if rank == "auto" else config.integer("time_step_rank")
    state = config.integer("state_size", 16)
    sizes = {"inner": inner, "mixed": inner, "in": 2 * inner, "state": state, "rank": rank}
    sizes["x"] = rank + 2 * state
    fields = (
        u32("mamba.ssm.inner_size", inner),
        u32("mamba.ssm.state_size", state),
        u32("mamba.ssm.time_step_rank", rank),
        boolean("mamba.ssm.dt_b_c_rms", False),
    )
    return _read("mamba", config, tensor_names, sizes, fields)


def read_mamba2(config: Config, tensor_names: frozenset[str]) -> Hyperparameters:
    hidden = config.integer("hidden_size")
    heads, head_dim = config.integer("num_heads", 128), config.integer("head_dim", 64)
    inner = config.integer("expand", 2) * hidden
    groups, state = config.integer("n_groups", 8), config.integer("state_size", 128)
    if heads * head_dim != inner or inner % groups:
        raise DamagedCheckpoint(
            f"{config.path}: {heads} heads of size {head_dim} in {groups} groups do not make an "
            f"inner size of {inner}."
        )
    limits = config.values.get("time_step_limit")
    is_limited = isinstance(limits, list | tuple) and (
        len(limits) != 2 or limits[0] != 0 or "inf" not in str(limits[1]).lower()
    )
    if is_limited:
        raise UnsupportedModel(
            f"{config.path} has time_step_limit = {limits}; llama.cpp's mamba2 has no limit."
        )
    mixed = inner + 2 * groups * state
    sizes = {
        "inner": inner,
        "mixed": mixed,
        "in": inner + mixed + heads,
        "heads": heads,
        "groups": groups,
        "group": inner // groups,
    }
    fields = (
        u32("mamba2.ssm.inner_size", inner),
        u32("mamba2.ssm.state_size", state),
        u32("mamba2.ssm.time_step_rank", heads),
        u32("mamba2.ssm.group_count", groups),
    )
    return _read("mamba2", config, tensor_names, sizes, fields)


def _read(
    name: str,
    config: Config,
    tensor_names: frozenset[str],
    sizes: dict[str, int],
    fields: tuple[Field, ...],
) -> Hyperparameters:
    for key, expected in {"use_bias": False, "use_conv_bias": True, "hidden_act": "silu"}.items():
        if config.values.get(key, expected) != expected:
            raise UnsupportedModel(
                f"{config.path} has {key} = {config.values[key]}; llama.cpp's {name} only supports "
                f"{expected}."
            )
    hidden, kernel = config.integer("hidden_size"), config.integer("conv_kernel", 4)
    vocab, num_layers = config.integer("vocab_size"), config.integer("num_hidden_layers")
    tied = is_tied(config, tensor_names)
    return Hyperparameters(
        num_layers=num_layers,
        num_heads=0,
        num_kv_heads=0,
        head_dim=1,
        sizes={"vocab": vocab, "hidden": hidden, "kernel": kernel, "one": 1, **sizes},
        features=frozenset({"embedding", "shared output" if tied else "own output"}),
        fields=(
            u32(f"{name}.block_count", num_layers),
            u32(f"{name}.context_length", CONTEXT),
            u32(f"{name}.embedding_length", hidden),
            u32(f"{name}.feed_forward_length", 0),
            u32(f"{name}.attention.head_count", 0),
            f32(
                f"{name}.attention.layer_norm_rms_epsilon",
                config.number("layer_norm_epsilon", 1e-5),
            ),
            u32(f"{name}.vocab_size", vocab),
            u32(f"{name}.ssm.conv_kernel", kernel),
            *fields,
        ),
        copies={HEAD: EMBEDDING} if tied and {HEAD, EMBEDDING} <= tensor_names else {},
    )


MAMBA = Family(
    name="mamba",
    models="Mamba",
    architectures=("MambaForCausalLM",),
    model_types=("mamba",),
    rules=MAMBA_RULES,
    read_config=read_mamba,
    spellings=SPELLINGS,
)
MAMBA2 = Family(
    name="mamba2",
    models="Mamba 2, Codestral Mamba",
    architectures=("Mamba2ForCausalLM",),
    model_types=("mamba2",),
    rules=MAMBA2_RULES,
    read_config=read_mamba2,
    spellings=SPELLINGS,
)
