"""Tensors of a checkpoint that hold no weights: numbers that a program saved along.

Knows no model family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from convert.safetensors_file import StoredTensor, StoredType


def is_buffer(tensor: StoredTensor) -> bool:
    """Whether a tensor without a place in its model holds no weights."""
    if math.prod(tensor.shape) == 0 or tensor.stored_type is StoredType.BOOL:
        return True
    if tensor.name.endswith(".masked_bias"):  # GPT-2's: what masked scores are set to
        return True
    is_named_so = tensor.name.endswith(("weight", "bias"))
    return not tensor.stored_type.holds_weights and not is_named_so


def buffer_notes(names: Sequence[str]) -> tuple[str, ...]:
    """That these were left out; nothing of none."""
    if not names:
        return ()
    return (f"Left out: {counted(names)} without weights, the first being {names[0]}.",)


def counted(names: Sequence[str]) -> str:
    return "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
