"""Mixtures of experts: their tensors stacked, their numbers of experts as fields.

Knows no family.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architectures.decoder import layer
from convert.architectures.family import Hyperparameters, TensorRule
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


def with_experts(
    name: str, hyper: Hyperparameters, config: Config, size_key: str
) -> Hyperparameters:
    """`hyper` with its experts; `size_key` names an expert's inner size in the config,
    `name` is llama.cpp's.
    """
    num_experts = config.integer(
        "num_local_experts" if "num_local_experts" in config else "num_experts"
    )
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
