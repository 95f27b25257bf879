"""Layers that predict one token more than the model, with which it can draft for itself
(multi-token prediction): as their tensors are named, and whether they are wanted.

Knows no family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from convert.errors import UnsupportedModel

DRAFT_PREFIX = "mtp."
_Tensor = TypeVar("_Tensor")


def drafting(feature: str) -> str:
    """`feature`, of layers that draft."""
    return f"drafts: {feature}"


def chosen_drafts(
    spelled: Mapping[str, _Tensor], models: str, *, can_draft: bool, drafts: bool
) -> tuple[dict[str, _Tensor], tuple[str, ...]]:
    """`spelled` without the layers that draft where they are not wanted, and notes on that.

    Raises `UnsupportedModel` where they are wanted, and the checkpoint has none or
    `models` none that can be converted.
    """
    found = {name for name in spelled if name.startswith(DRAFT_PREFIX)}
    if not can_draft and drafts:
        raise UnsupportedModel(
            f"--mtp: layers that draft for {models} cannot be converted, only those of Qwen3-Next "
            "and Qwen 3.5. Convert it without --mtp."
        )
    if drafts and not found:
        raise UnsupportedModel(
            f"--mtp: this checkpoint has no layer that drafts for it ({DRAFT_PREFIX}*). Convert it "
            "without --mtp."
        )
    if drafts or not (can_draft and found):
        return dict(spelled), ()
    kept = {name: tensor for name, tensor in spelled.items() if name not in found}
    return kept, (
        "Left out: the layer that predicts one token more, with which the model can draft for "
        "itself. --mtp writes it too.",
    )
