"""Scales of whole weights, as tensors beside those whose blocks (NVFP4) have no room for them.

Knows no scheme. llama.cpp multiplies a product by `NAME.scale` where it has one (llama-model.cpp:
"load optional per-tensor/per-expert .scale tensors"), but only where the graph of a family asks
for it: which do so for which weights was read in src/models of the pinned version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.safetensors_file import StoredTensor, StoredType
from convert.tensors import OutputTensor, packs, stored_tensors

_DENSE = r"attn_(q|k|v|output)|ffn_(gate|up|down)"
_EXPERTS = r"ffn_(gate|up|down)_exps"
# by llama.cpp's name of a family: the weights that its graph scales
_SCALED: Mapping[str, re.Pattern[str]] = {
    "llama": re.compile(rf"(blk\.\d+\.({_DENSE}|{_EXPERTS})|output)\.weight"),
    "qwen3": re.compile(rf"(blk\.\d+\.({_DENSE})|output)\.weight"),
    "qwen3moe": re.compile(rf"(blk\.\d+\.({_DENSE}|{_EXPERTS})|output)\.weight"),
}


@dataclass(frozen=True)
class BlockScales:
    """One number for each matrix of a weight; read when its rows are."""

    weights: tuple[StoredTensor, ...]
    stored_type: StoredType = StoredType.F32
    row_group: int = 1

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        scales = [weight.block_scale for weight in self.weights[start:stop]]
        return np.array(scales, np.float32).reshape(-1, 1)


def with_block_scales(
    architecture: str, tensors: Sequence[OutputTensor]
) -> tuple[OutputTensor, ...]:
    """`tensors`, and behind each that may be written as NVFP4 its scale."""
    made: list[OutputTensor] = []
    for tensor in tensors:
        made.append(tensor)
        if may_be_nvfp4(architecture, tensor):
            scales = BlockScales(stored_tensors(tensor.source))
            name = f"{tensor.name.removesuffix('.weight')}.scale"
            made.append(OutputTensor(name, (len(scales.weights),), scales))
    return tuple(made)


def may_be_nvfp4(architecture: str, tensor: OutputTensor) -> bool:
    """Whether a weight has such blocks, and llama.cpp would multiply by their scale."""
    pattern = _SCALED.get(architecture)
    is_scaled = pattern is not None and pattern.fullmatch(tensor.name) is not None
    return is_scaled and GGMLQuantizationType.NVFP4 in packs(tensor.source)


def is_block_scale(tensor: OutputTensor) -> bool:
    return isinstance(tensor.source, BlockScales)
