"""Weights that are made from their names, for golden checkpoints that would be large: NumPy's
old generator, whose numbers never change (NEP 19), on a grid that BF16 holds.

Knows no family.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHTS_FILE = "weights.json"


def expanded(description: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Each tensor's shape; `{layer}` in a name stands for the number of each layer."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in description["shapes"].items():
        layers = range(description["layers"]) if "{layer}" in name else (0,)
        shapes |= {name.format(layer=index): tuple(shape) for index in layers}
    return shapes


def seeded_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors that `folder` describes. `small` are parts of the names of what is made small,
    so that the errors of ggml's GELU stay so.
    """
    description = json.loads((folder / WEIGHTS_FILE).read_text())
    made = {}
    for name, shape in expanded(description).items():
        random = np.random.RandomState(zlib.crc32(name.encode()))
        scale = 1 / 16 if any(part in name for part in description["small"]) else 1.0
        if "norm" in name:
            values = random.randint(32, 97, shape) / 64 * scale
        else:
            fan_in = 16 if "embed_tokens" in name else shape[-1]
            scale *= 2.0 ** round(math.log2(2 / math.sqrt(fan_in)))
            values = random.randint(-64, 65, shape) / 64 * scale
        made[name] = values.astype(np.float32)
    return made
