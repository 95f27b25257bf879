"""Configs whose layers differ: which layer is of which kind.

Knows no tensors and no family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convert.config import Config
from convert.errors import DamagedCheckpoint, UnsupportedModel


def layer_types(
    config: Config, num_layers: int, known: Sequence[str], default: Sequence[str]
) -> list[str]:
    """Each layer's kind as `layer_types` has it, by `default` where it is left out.

    Raises `UnsupportedModel` for a kind that is not `known`, `DamagedCheckpoint` for a list
    of another length.
    """
    kinds = config.values.get("layer_types")
    if kinds is None:
        return list(default)
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise DamagedCheckpoint(
            f"{config.path} has layer_types that are not a list of {num_layers} names."
        )
    unknown = sorted({str(kind) for kind in kinds} - set(known))
    if unknown:
        raise UnsupportedModel(f"{config.path} has the unsupported layer type {unknown[0]!r}.")
    return kinds


def every(period: int, num_layers: int, *, kind: str, others: str) -> list[str]:
    """`kind` for each `period`-th layer, `others` for the rest."""
    return [kind if (index + 1) % period == 0 else others for index in range(num_layers)]


def layer_features(
    kinds: Sequence[str], features: Mapping[str, str] | None = None
) -> tuple[frozenset[str], ...]:
    """For `Hyperparameters.layer_features`: each layer's kind, as `features` calls it."""
    named = features or {}
    return tuple(frozenset({named.get(kind, kind)}) for kind in kinds)
