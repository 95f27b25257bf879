"""AMD's Quark: FP8, int8, MXFP4, and groups of int4 in AWQ's order.

Knows no other scheme but those whose layouts it shares.

Source: the package amd-quark (torch/utils/pack.py: `Pack_4_bits`, `Pack_fp4`), and vLLM
(quantization/quark/quark.py: which settings belong to which module).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.fp4 import MX_GROUP, mx4_weight
from convert.dequantize.fp8 import fp8_parts, is_fp8
from convert.dequantize.gptq import AwqWeight
from convert.dequantize.numbers.formats import digits_of
from convert.dequantize.repack import IntegerKind
from convert.dequantize.scaled import scaled_weight
from convert.dequantize.weight import Shared, all_of, demand, matrix_shape
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_EACH = 8  # numbers of a word
_FLOATS = (StoredType.F16, StoredType.BF16, StoredType.F32)


@dataclass(frozen=True, kw_only=True)
class QuarkWeight(AwqWeight):
    """As AWQ's; symmetric numbers are signed ones, and have no zero points."""

    is_signed: bool
    is_mixed: bool  # the eight of a word in AWQ's order

    def numbers(self, start: int, stop: int) -> NDArray[np.uint8]:
        numbers = super().numbers(start, stop)
        return numbers ^ np.uint8(8) if self.is_signed else numbers

    def zeros(self, start: int, stop: int) -> NDArray[np.int16]:
        if self.is_signed:
            return np.full((len(self.whole("scales")), stop - start), 8, np.int16)
        return super().zeros(start, stop)

    def in_order(self, part: str, start: int, stop: int) -> NDArray[np.uint8]:
        if self.is_mixed:
            return super().in_order(part, start, stop)
        return self.columns(part, start, stop)


def quark_parts(
    module: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its quantized weight as floats.

    Raises `UnsupportedModel` for other kinds of numbers, and for rotated ones; `MissingFile`,
    `DamagedCheckpoint`.
    """
    weight, scale = parts.get("weight"), parts.get("weight_scale")
    if weight is None or not (weight.stored_type.may_be_packed or scale is not None):
        return parts
    _check_is_not_rotated(config)
    if is_fp8(parts):
        return fp8_parts(module, parts, config, shared)
    if scale is None:
        raise MissingFile(f"The checkpoint does not contain {module}.weight_scale.")
    spec, zero = _spec(module, config), parts.get("weight_zero_point")
    rest = {
        name: tensor
        for name, tensor in parts.items()
        if name not in ("weight_scale", "weight_zero_point")
    }
    kind = spec.values.get("dtype"), spec.values.get("qscheme")
    is_symmetric = zero is None or not all_of(zero).any()
    if kind == ("fp4", "per_group") and weight.stored_type is StoredType.U8:
        if spec.integer("group_size", MX_GROUP) == MX_GROUP and scale.stored_type is StoredType.U8:
            return {**rest, "weight": mx4_weight(weight.name, weight, scale, shared)}
    elif kind in (("int8", "per_tensor"), ("int8", "per_channel")) and is_symmetric:
        return {**rest, "weight": scaled_weight(weight, scale, shared)}
    elif kind in (("int4", "per_group"), ("uint4", "per_group")):
        pack_method = config.section("export").text("pack_method", "reorder")
        computed = _four_bits(parts, spec, shared, is_mixed=pack_method == "reorder")
        return {**rest, "weight": computed}
    raise UnsupportedModel(
        f"{config.path} has {module} as Quark's {kind[0]} ({kind[1]}); of Quark's, FP8, int8 for a "
        "tensor or a channel, int4 in groups and MXFP4 can be read. Use the unquantized checkpoint "
        "of this model."
    )


def _four_bits(
    parts: Mapping[str, StoredTensor], spec: Config, shared: Shared, *, is_mixed: bool
) -> StoredTensor:
    words = demand(parts["weight"], None, StoredType.I32)
    scales = demand(parts["weight_scale"], None, *_FLOATS)
    row_items, row_words = matrix_shape(words)
    num_groups, num_rows = matrix_shape(scales)
    group_size = spec.integer("group_size", 128)
    if row_words * _EACH != num_rows or num_groups * group_size != row_items:
        raise DamagedCheckpoint(
            f"{words.file.path}: {words.name} has shape {list(words.shape)}, to which scales of "
            f"shape {list(scales.shape)} for groups of {group_size} do not belong."
        )
    kept = {"qweight": words, "scales": scales}
    is_signed = spec.values.get("dtype") == "int4"
    if not is_signed:
        if "weight_zero_point" not in parts:
            raise MissingFile(f"The checkpoint does not contain {words.name}_zero_point.")
        shape = (num_groups, row_words)
        kept["qzeros"] = demand(parts["weight_zero_point"], shape, StoredType.I32)
    return QuarkWeight(
        name=words.name,
        stored_type=StoredType.F32,
        shape=(num_rows, row_items),
        offset=words.offset,
        file=words.file,
        parts=kept,
        shared=shared,
        kind=IntegerKind(
            low=-8 if is_signed else -15,
            high=7 if is_signed else 15,
            bits=4,
            scale_digits=digits_of(scales.stored_type),
            group_items=group_size,
        ),
        bits=4,
        group_size=group_size,
        is_signed=is_signed,
        is_mixed=is_mixed,
    )


def _check_is_not_rotated(config: Config) -> None:
    algorithms = config.values.get("algo_config")
    for algorithm in algorithms if isinstance(algorithms, list) else [algorithms]:
        name = algorithm.get("name") if isinstance(algorithm, dict) else None
        if isinstance(name, str) and any(word in name.lower() for word in ("quarot", "rotat")):
            raise UnsupportedModel(
                f"{config.path} says that Quark rotated the weights ({name}); inputs would have to "
                "be rotated while it runs. Use the unquantized checkpoint of this model."
            )


def _spec(module: str, config: Config) -> Config:
    """What the config says of a module's weight: by a pattern of its name, else of all."""
    layers: Mapping[str, Any] = config.section("layer_quant_config").values
    chosen = config.section("global_quant_config")
    for pattern in layers:
        is_meant = fnmatch.fnmatch(module, pattern) if "*" in pattern else module == pattern
        if is_meant:
            chosen = config.section("layer_quant_config").section(pattern)
            break
    if isinstance(chosen.values.get("weight"), list):
        raise UnsupportedModel(
            f"{config.path} says that {module} was quantized by Quark in several steps, which "
            "cannot be read. Use the unquantized checkpoint of this model."
        )
    return chosen.section("weight")
