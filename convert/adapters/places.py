"""Where each of a checkpoint's tensors is in the GGUF.

Knows no adapters and no family by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from convert.architectures.family import (
    Family,
    Hyperparameters,
    TensorRule,
    expand,
    source_names,
)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one of a checkpoint's tensors is in the GGUF."""

    target: str  # the name there
    rule: TensorRule
    shape: tuple[int, ...]  # in the checkpoint
    head_dim: int
    expert: int = 0
    num_experts: int = 0  # that are stacked there; 0: it is there alone


def places(family: Family, hyper: Hyperparameters) -> dict[str, Place]:
    """Every tensor's place, by its name in the checkpoint."""
    found: dict[str, Place] = {}
    for rule, layer in expand(family, hyper):
        for expert, name in enumerate(source_names(rule, layer, hyper)):
            found[name] = Place(
                target=rule.target.format(layer=layer),
                rule=rule,
                shape=hyper.shape(rule.shape[rule.is_per_expert :], layer),
                head_dim=hyper.head_dim,
                expert=expert,
                num_experts=hyper.shape(rule.shape, layer)[0] if rule.is_per_expert else 0,
            )
    return found
