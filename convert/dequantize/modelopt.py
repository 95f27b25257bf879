"""NVIDIA's Model Optimizer: FP8, MXFP8, NVFP4, int8 and int4.

Knows no other scheme but those whose layouts it shares.

Source: https://github.com/NVIDIA/Model-Optimizer (modelopt/torch/export/quant_utils.py:
`to_quantized_weight`, `pack_int4_in_uint8`). What `hf_quant_config.json` calls the algorithm is
not needed: tensors say it. Where inputs were to be multiplied first (`pre_quant_scale`), the
weight's columns are instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.fp4 import nv4_weight
from convert.dequantize.fp8 import fp8_parts
from convert.dequantize.numbers.formats import decoded, digits_of
from convert.dequantize.repack import IntegerKind, Integers
from convert.dequantize.scaled import scaled_weight
from convert.dequantize.weight import (
    IntegerWeight,
    QuantizedWeight,
    Shared,
    all_of,
    demand,
    floats_of,
    matrix_shape,
)
from convert.errors import MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType, to_float32

_FLOATS = (StoredType.F16, StoredType.BF16, StoredType.F32)
_OWN = ("weight_scale", "weight_scale_2", "pre_quant_scale")


@dataclass(frozen=True, kw_only=True)
class PairedRows(IntegerWeight):
    """Signed int4. `parts`: `weight`, bytes of (rows / 2, items) with an even row in the lower
    four bits and the next in the upper; `weight_scale`, (rows, groups).
    """

    def integers(self, start: int, stop: int) -> Integers:
        octets = self.parts["weight"].read_rows(start // 2, -(-stop // 2))
        pairs = np.stack([octets & np.uint8(15), octets >> np.uint8(4)], axis=1)
        codes = pairs.reshape(-1, self.shape[-1])[start % 2 :][: stop - start]
        numbers = (codes ^ np.uint8(8)).astype(np.int16) - np.int16(8)
        scales = floats_of(self.parts["weight_scale"], start, stop)
        return Integers(numbers, scales, self.shape[-1] // scales.shape[1])


@dataclass(frozen=True, kw_only=True)
class ColumnScaled(QuantizedWeight):
    """Another weight whose columns are multiplied by `parts["pre_quant_scale"]`, rounded once
    more to float32.
    """

    inner: StoredTensor

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        factors = self.parts["pre_quant_scale"]
        values = to_float32(self.inner.read_rows(start, stop), self.inner.stored_type)
        product: NDArray[np.float32] = values * decoded(all_of(factors), factors.stored_type)
        return product


def modelopt_parts(
    module: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its quantized weight as floats.

    Raises `MissingFile`, `DamagedCheckpoint` and `UnsupportedModel` for what cannot be read.
    """
    if "weight_scale" in parts and "weight" not in parts:
        raise MissingFile(f"The checkpoint does not contain {module}.weight.")
    weight = parts.get("weight")
    if weight is None or not weight.stored_type.may_be_packed:
        return parts
    if "SVD" in config.text("quant_algo", "") or any("lora" in name for name in parts):
        raise UnsupportedModel(
            f"{config.path} says that each weight is a quantized one and a product of two small "
            "ones (SVDQuant), which cannot be read. Use the unquantized checkpoint of this model."
        )
    computed = _weight(module, weight, parts, config, shared)
    if "pre_quant_scale" in parts:
        computed = _column_scaled(computed, parts["pre_quant_scale"], shared)
    rest = {name: tensor for name, tensor in parts.items() if name not in _OWN}
    return {**rest, "weight": computed}


def _weight(
    module: str,
    weight: StoredTensor,
    parts: Mapping[str, StoredTensor],
    config: Config,
    shared: Shared,
) -> StoredTensor:
    if weight.stored_type.value.startswith("F8_"):
        return fp8_parts(module, parts, config, shared)["weight"]
    scale, factor = parts.get("weight_scale"), parts.get("weight_scale_2")
    if scale is None:
        raise MissingFile(f"The checkpoint does not contain {module}.weight_scale.")
    if weight.stored_type is StoredType.I8:
        return scaled_weight(weight, scale, shared)
    if factor is not None and scale.stored_type is StoredType.F8_E4M3:
        return nv4_weight(weight.name, weight, scale, factor, divides=False, shared=shared)
    if factor is None and weight.stored_type is StoredType.U8 and scale.stored_type in _FLOATS:
        return _paired_rows(weight, scale, shared)
    raise UnsupportedModel(
        f"{weight.file.path} has {weight.name} as {weight.stored_type.value} with scales of "
        f"{scale.stored_type.value}; of the Model Optimizer's, FP8, MXFP8, NVFP4, int8 and int4 "
        "(AWQ) can be read. Use the unquantized checkpoint of this model."
    )


def _paired_rows(weight: StoredTensor, scale: StoredTensor, shared: Shared) -> StoredTensor:
    octets, items = matrix_shape(weight)
    num_groups = matrix_shape(scale)[1]
    demand(scale, (octets * 2, num_groups))
    if items % num_groups:
        demand(scale, (octets * 2, 1))
    return PairedRows(
        name=weight.name,
        stored_type=StoredType.F32,
        shape=(octets * 2, items),
        offset=weight.offset,
        file=weight.file,
        parts={"weight": weight, "weight_scale": scale},
        shared=shared,
        kind=IntegerKind(
            low=-8,
            high=7,
            bits=4,
            scale_digits=digits_of(scale.stored_type),
            group_items=items // num_groups,
        ),
    )


def _column_scaled(weight: StoredTensor, factors: StoredTensor, shared: Shared) -> StoredTensor:
    demand(factors, (weight.shape[-1],), *_FLOATS)
    return ColumnScaled(
        name=weight.name,
        stored_type=StoredType.F32,
        shape=weight.shape,
        offset=weight.offset,
        file=weight.file,
        parts={"pre_quant_scale": factors},
        shared=shared,
        inner=weight,
    )
