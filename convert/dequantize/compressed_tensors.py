"""What compressed-tensors (llm-compressor, vLLM) writes.

Knows no other scheme.

Source: https://github.com/neuralmagic/compressed-tensors (compressors/,
quantization/lifecycle/forward_helpers.py: `_dequantize`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.fp4 import mx4_weight, nv4_weight
from convert.dequantize.numbers.bits import WORD_BITS, unpack
from convert.dequantize.numbers.formats import digits_of
from convert.dequantize.repack import IntegerKind, Integers
from convert.dequantize.scaled import scaled_weight
from convert.dequantize.weight import (
    IntegerWeight,
    Shared,
    all_of,
    demand,
    floats_of,
    matrix_shape,
)
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_WORDS = (StoredType.I32, StoredType.U32)
_SPARSE = ("sparse", "marlin")


@dataclass(frozen=True, kw_only=True)
class PackedIntegers(IntegerWeight):
    """pack-quantized. `parts`: `weight_packed`, words along the rows; `weight_scale`; where it
    is asymmetric `weight_zero_point`, words along the columns or a number each; where columns
    are mixed `weight_g_idx`, each column's group.

    Numbers and zero points are stored plus half their range.
    """

    bits: int

    def integers(self, start: int, stop: int) -> Integers:
        packed = self.parts["weight_packed"].read_rows(start, stop)
        numbers = unpack(packed, self.bits)[:, : self.shape[-1]].astype(np.int16)
        numbers -= np.int16(1 << (self.bits - 1))
        scales = floats_of(self.parts["weight_scale"], start, stop)
        groups = self._groups(scales.shape[1])
        if "weight_zero_point" in self.parts:
            zeros = self._zeros(start, stop)
            if isinstance(groups, int):
                by_group = numbers.reshape(len(numbers), -1, groups)
                by_group -= zeros[:, :, None]
            else:
                numbers -= zeros[:, groups]
        return Integers(numbers, scales, groups)

    def _groups(self, num_groups: int) -> int | NDArray[np.intp]:
        if "weight_g_idx" not in self.parts:
            return self.shape[-1] // num_groups
        tensor = self.parts["weight_g_idx"]
        groups = all_of(tensor).astype(np.intp)
        if groups.min() < 0 or groups.max() >= num_groups:
            raise DamagedCheckpoint(
                f"{tensor.file.path}: {tensor.name} has groups {groups.min()} to {groups.max()}, "
                f"but there are {num_groups}."
            )
        return groups

    def _zeros(self, start: int, stop: int) -> NDArray[np.int16]:
        tensor = self.parts["weight_zero_point"]
        if tensor.stored_type not in _WORDS:
            return tensor.read_rows(start, stop).astype(np.int16)
        first, last = start // WORD_BITS, -(-stop // WORD_BITS)
        last = min(last * self.bits, tensor.num_rows)
        words = np.ascontiguousarray(tensor.read_rows(first * self.bits, last).T)
        first *= WORD_BITS
        numbers = unpack(words, self.bits)[:, start - first : stop - first]
        zeros: NDArray[np.int16] = numbers.T.astype(np.int16)
        zeros -= np.int16(1 << (self.bits - 1))
        return zeros


def compressed_weight(
    module: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> StoredTensor:
    """The weight of `module` from its `parts`, by their last names.

    Raises `UnsupportedModel` for a format that is not known here, `DamagedCheckpoint` for
    shapes that do not fit, `MissingFile` for a part that is not there.
    """
    scheme = _scheme(module, config)
    layout = scheme.text("format", config.text("format", "dense"))
    sparsity = config.section("sparsity_config").text("format", "dense")
    if sparsity != "dense" or layout.startswith(_SPARSE):
        raise UnsupportedModel(
            f"{config.path} says that weights are sparse ({sparsity}, {layout}), which cannot be "
            "read. Use the unquantized checkpoint of this model."
        )
    weights = scheme.section("weights")
    name = f"{module}.weight"
    scale = _part(module, parts, "weight_scale")
    if "weight_packed" not in parts:
        block = weights.values.get("block_structure")
        zero = None if weights.flag("symmetric", True) else parts.get("weight_zero_point")
        return scaled_weight(
            _part(module, parts, "weight"),
            scale,
            shared,
            zero=zero,
            block=block if isinstance(block, list) else None,
        )
    if weights.text("type", "int") == "int":
        return _packed_integers(name, parts, weights, shared)
    bits, codes = weights.integer("num_bits", 8), parts["weight_packed"]
    if bits != 4:
        raise UnsupportedModel(
            f"{config.path} has packed floats of {bits} bits ({layout}), which cannot be read. "
            "Use the unquantized checkpoint of this model."
        )
    if "weight_global_scale" in parts:
        factor = parts["weight_global_scale"]
        return nv4_weight(name, codes, scale, factor, divides=True, shared=shared)
    return mx4_weight(name, codes, scale, shared)


def _packed_integers(
    name: str, parts: Mapping[str, StoredTensor], weights: Config, shared: Shared
) -> StoredTensor:
    bits = weights.integer("num_bits", 8)
    if bits > 8:
        raise UnsupportedModel(f"{weights.path} has num_bits = {bits}; at most 8 can be read.")
    packed, scale = demand(parts["weight_packed"], None, *_WORDS), parts["weight_scale"]
    demand(scale, None, StoredType.F16, StoredType.BF16, StoredType.F32)
    num_rows, words = matrix_shape(packed)
    _, num_groups = matrix_shape(scale)
    row_items = words * WORD_BITS // bits
    if weights.text("strategy", "channel") in ("group", "tensor_group"):
        row_items = num_groups * weights.integer("group_size")
    demand(scale, (num_rows, num_groups))
    demand(packed, (num_rows, -(-row_items * bits // WORD_BITS)))
    kept = {"weight_packed": packed, "weight_scale": scale}
    half = 1 << (bits - 1)
    low, high = -half, half - 1
    if not weights.flag("symmetric", True):
        kept["weight_zero_point"] = _zero_points(name, parts, bits, (num_rows, num_groups))
        low, high = -2 * half + 1, 2 * half - 1
    if "weight_g_idx" in parts:
        kept["weight_g_idx"] = demand(
            parts["weight_g_idx"], (row_items,), StoredType.I32, StoredType.I64
        )
    return PackedIntegers(
        name=name,
        stored_type=StoredType.F32,
        shape=(num_rows, row_items),
        offset=packed.offset,
        file=packed.file,
        parts=kept,
        shared=shared,
        kind=IntegerKind(
            low=low,
            high=high,
            bits=bits,
            scale_digits=digits_of(scale.stored_type),
            group_items=None if "weight_g_idx" in kept else row_items // num_groups,
        ),
        bits=bits,
    )


def _zero_points(
    name: str, parts: Mapping[str, StoredTensor], bits: int, shape: tuple[int, int]
) -> StoredTensor:
    zeros = _part(name.removesuffix(".weight"), parts, "weight_zero_point")
    if zeros.stored_type is StoredType.I8:
        return demand(zeros, shape)
    return demand(zeros, (-(-shape[0] * bits // WORD_BITS), shape[1]), *_WORDS)


def _part(module: str, parts: Mapping[str, StoredTensor], name: str) -> StoredTensor:
    if name not in parts:
        raise MissingFile(
            f"The checkpoint does not contain {module}.{name}, without which the other quantized "
            "tensors of that module cannot be read. Download it again."
        )
    return parts[name]


def _scheme(module: str, config: Config) -> Config:
    """The group of the config that a module belongs to: by its name, by an expression, or,
    failing these, by its class, which here is always a linear one.
    """
    groups = config.section("config_groups")
    by_class = None
    for name in groups.values:
        group = groups.section(name)
        for target in group.values.get("targets") or ():
            if not isinstance(target, str):
                continue
            if target.startswith("re:"):
                if _matches(target[3:], module, config):
                    return group
            elif target == module or module.endswith(f".{target}"):
                return group
            elif "." not in target and by_class is None:
                by_class = group
    if by_class is None:
        raise DamagedCheckpoint(
            f"{config.path} (config_groups) does not say how {module} is quantized."
        )
    return by_class


def _matches(expression: str, module: str, config: Config) -> bool:
    try:
        return re.match(expression, module) is not None
    except re.error as error:
        raise DamagedCheckpoint(
            f"{config.path} has a target {expression!r} that is no regular expression: {error}."
        ) from error
