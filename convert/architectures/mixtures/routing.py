"""Mixtures in which a router weighs experts by sigmoids, after some dense layers.

Knows no family.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from convert.architectures.decoder import with_fields
from convert.architectures.experts import with_experts
from convert.architectures.family import Hyperparameters, TensorRule
from convert.config import Config
from convert.errors import DamagedCheckpoint
from convert.gguf.header import boolean, f32, u32

DENSE, MOE = "dense feed-forward", "experts"
SOFTMAX, SIGMOID = 1, 2  # llama.cpp's functions by which a router weighs


def needing(feature: str, rules: Iterable[TensorRule]) -> tuple[TensorRule, ...]:
    return tuple(replace(rule, needs=feature) for rule in rules)


def with_routing(
    name: str,
    hyper: Hyperparameters,
    config: Config,
    *,
    default_dense: int,
    gating: int = SIGMOID,
    default_norm: bool = True,
) -> Hyperparameters:
    """`hyper` with its experts. What follows the last layer are heads that guess tokens
    further on, which are left out.
    """
    hyper = with_experts(name, hyper, config, "moe_intermediate_size")
    num_dense = config.values.get("first_k_dense_replace")
    num_dense = default_dense if num_dense is None else num_dense
    if type(num_dense) is not int or num_dense < 0:
        raise DamagedCheckpoint(f"{config.path} has first_k_dense_replace = {num_dense!r}.")
    num_shared = config.integer("n_shared_experts", 1)
    hyper = replace(
        hyper,
        sizes={**hyper.sizes, "shared_expert": num_shared * hyper.sizes["expert"]},
        layer_features=tuple(
            frozenset({DENSE if index < num_dense else MOE}) for index in range(hyper.num_layers)
        ),
        unused=(*hyper.unused, f"model.layers.{hyper.num_layers}.*"),
    )
    return with_fields(
        hyper,
        u32(f"{name}.expert_feed_forward_length", hyper.sizes["expert"]),
        u32(f"{name}.expert_shared_count", num_shared),
        u32(f"{name}.leading_dense_block_count", num_dense),
        u32(f"{name}.expert_gating_func", gating),
        f32(f"{name}.expert_weights_scale", config.number("routed_scaling_factor", 1.0)),
        boolean(f"{name}.expert_weights_norm", config.flag("norm_topk_prob", default_norm)),
    )
