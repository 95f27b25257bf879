"""Mixtures of experts: their tensors stacked, their numbers of experts as fields.

Knows no family.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convert.architectures.decoder import layer
from convert.architectures.drafts import DRAFT_PREFIX, drafting
from convert.architectures.family import Hyperparameters, Rows, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint
from convert.gguf.header import u32


def expert_rules(block: str, gate: str, up: str, down: str) -> tuple[TensorRule, ...]:
    """The router and the experts' matrices; `block` is the checkpoint's name for the
    whole, the rest for its parts.
    """
    wide, back = ("experts", "expert", "hidden"), ("experts", "hidden", "expert")
    expert = f"{block}.experts.{{expert}}."
    return (
        layer("ffn_gate_inp.weight", f"{block}.gate.weight", ("experts", "hidden")),
        layer("ffn_gate_exps.weight", f"{expert}{gate}.weight", wide),
        layer("ffn_up_exps.weight", f"{expert}{up}.weight", wide),
        layer("ffn_down_exps.weight", f"{expert}{down}.weight", back),
    )


# features, by how they are stored
_EACH, _FUSED = "experts apart", "experts fused"


def fused_expert_rules(block: str = "mlp") -> tuple[TensorRule, ...]:
    """The router and the experts' matrices, one for each expert or, as transformers 5 holds
    them, in one tensor for all, whose gates and ups are one too.
    """
    router, *each = expert_rules(block, gate="gate_proj", up="up_proj", down="down_proj")
    gate_up, wide = ("experts", "gate_and_up", "hidden"), ("experts", "expert", "hidden")
    fused = f"{block}.experts.gate_up_proj"
    return (
        router,
        *(replace(rule, needs=_EACH) for rule in each),
        layer(
            "ffn_gate_exps.weight", fused, gate_up, needs=_FUSED, order="expert gates", becomes=wide
        ),
        layer("ffn_up_exps.weight", fused, gate_up, needs=_FUSED, order="expert ups", becomes=wide),
        layer(
            "ffn_down_exps.weight",
            f"{block}.experts.down_proj",
            ("experts", "hidden", "expert"),
            needs=_FUSED,
        ),
    )


def turned_expert_rules(block: str = "mlp") -> tuple[TensorRule, ...]:
    """As `fused_expert_rules`, with the matrices of the tensors for all on their side
    (Qwen3-VL).
    """
    fused = ("experts", "hidden", "gate_and_up")
    turned = {
        part: layer(
            f"ffn_{part}_exps.weight",
            f"{block}.experts.gate_up_proj",
            fused,
            Rows.TRANSPOSE,
            needs=_FUSED,
            columns=f"{part} columns",
            becomes=("experts", "expert", "hidden"),
        )
        for part in ("gate", "up")
    }
    down = layer(
        "ffn_down_exps.weight",
        f"{block}.experts.down_proj",
        ("experts", "expert", "hidden"),
        Rows.TRANSPOSE,
        needs=_FUSED,
    )
    kept = (rule for rule in fused_expert_rules(block) if rule.needs != _FUSED)
    return (*kept, *turned.values(), down)


def routed_expert_rules(moe: str) -> tuple[TensorRule, ...]:
    """Of layers of the kind `moe`: a router whose choice is corrected by a bias, experts,
    and one for all tokens (DeepSeek V3, GLM 4.5).
    """
    wide, back = ("shared_expert", "hidden"), ("hidden", "shared_expert")
    rules = (
        *expert_rules("mlp", gate="gate_proj", up="up_proj", down="down_proj"),
        layer("ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight", wide),
        layer("ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight", wide),
        layer("ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight", back),
    )
    return tuple(replace(rule, needs=moe) for rule in rules)


def shared_expert_rules() -> tuple[TensorRule, ...]:
    """Qwen's expert that works on every token, and its gate."""
    wide, back = ("shared_expert", "hidden"), ("hidden", "shared_expert")
    shared = "mlp.shared_expert"
    return (
        layer("ffn_gate_inp_shexp.weight", f"{shared}_gate.weight", ("one", "hidden"), Rows.VECTOR),
        layer("ffn_gate_shexp.weight", f"{shared}.gate_proj.weight", wide),
        layer("ffn_up_shexp.weight", f"{shared}.up_proj.weight", wide),
        layer("ffn_down_shexp.weight", f"{shared}.down_proj.weight", back),
    )


def with_storage(hyper: Hyperparameters, tensor_names: frozenset[str]) -> Hyperparameters:
    """`hyper` with what `fused_expert_rules` and `turned_expert_rules` need to know, by the
    checkpoint's tensors.
    """
    fused = [name for name in tensor_names if name.endswith(".experts.gate_up_proj")]
    in_draft = [name for name in fused if name.startswith(DRAFT_PREFIX)]
    experts, size = hyper.sizes["experts"], hyper.sizes["expert"]
    rows = np.arange(experts * 2 * size).reshape(experts, 2, size)
    return replace(
        hyper,
        features=hyper.features
        | {_FUSED if len(fused) > len(in_draft) else _EACH}
        | {drafting(_FUSED if in_draft else _EACH)},
        sizes={**hyper.sizes, "gate_and_up": 2 * size},
        orders={
            **hyper.orders,
            "expert gates": rows[:, 0].ravel(),
            "expert ups": rows[:, 1].ravel(),
            "gate columns": np.arange(size),
            "up columns": size + np.arange(size),
        },
    )


def with_shared_expert(
    name: str, hyper: Hyperparameters, config: Config, tensor_names: frozenset[str]
) -> Hyperparameters:
    """`hyper` for Qwen's mixtures with a shared expert."""
    shared = config.integer("shared_expert_intermediate_size")
    hyper = with_storage(hyper, tensor_names)
    return replace(
        hyper,
        sizes={**hyper.sizes, "shared_expert": shared},
        fields=(
            *hyper.fields,
            u32(f"{name}.expert_feed_forward_length", hyper.sizes["expert"]),
            u32(f"{name}.expert_shared_feed_forward_length", shared),
        ),
    )


def with_experts(
    name: str, hyper: Hyperparameters, config: Config, size_key: str
) -> Hyperparameters:
    """`hyper` with its experts; `size_key` names an expert's inner size in the config,
    `name` is llama.cpp's.
    """
    names = ("num_local_experts", "n_routed_experts", "num_experts")
    num_experts = config.integer(next((name for name in names if name in config), names[-1]))
    num_used = config.integer("num_experts_per_tok")
    if num_used > num_experts:
        raise DamagedCheckpoint(
            f"{config.path} asks for {num_used} experts per token, but there are only "
            f"{num_experts}."
        )
    return replace(
        hyper,
        num_experts=num_experts,
        sizes={**hyper.sizes, "experts": num_experts, "expert": config.integer(size_key)},
        fields=(
            *hyper.fields,
            u32(f"{name}.expert_count", num_experts),
            u32(f"{name}.expert_used_count", num_used),
        ),
    )
