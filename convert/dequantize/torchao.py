"""torchao's tensors, as transformers writes them into safetensors files.

Knows no other scheme.

Source: https://github.com/pytorch/ao (torchao/prototype/safetensors/safetensors_support.py):
the data of the tensor `module.weight` is in `module._weight_qdata`, `..._scale`,
`..._zero_point`, and its class is in the header's texts. Int4Tensor: as FBGEMM's
`int4_row_quantize_zp` and `pack_int4` (experimental/gen_ai/gen_ai/quantize.py) write it: a number
from -8 to 7 times its scale, plus a `zero_point` that is a float.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.numbers.bits import nibbles
from convert.dequantize.numbers.formats import decoded, digits_of
from convert.dequantize.repack import IntegerKind, Integers
from convert.dequantize.scaled import scaled_weight
from convert.dequantize.weight import IntegerWeight, Shared, all_of, demand, matrix_shape
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_INT4 = "Int4Tensor"
_READ = ("Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor", _INT4)
_NAMES = ("_weight_qdata", "_weight_scale", "_weight_zero_point")
_FLOATS = (StoredType.F16, StoredType.BF16, StoredType.F32)
# what is told of the others
_REASONS = {
    "Int4TilePackedTo4dTensor": "its numbers lie in the order of a GPU's tensor cores",
    "Int4PreshuffledTensor": "its numbers lie in the order of a GPU's tensor cores",
    "Int4PlainInt32Tensor": "how it is packed depends on the device that it was made for",
    "NF4Tensor": "torchao writes it as a pickle alone",
    "AffineQuantizedTensor": "older versions of torchao write it as a pickle alone",
}


@dataclass(frozen=True, kw_only=True)
class PlainInt4(IntegerWeight):
    """`parts`: `_weight_qdata`, two numbers in a byte, the even column's in the lower four bits;
    `_weight_scale`, (groups, rows); where any is not zero `_weight_zero_point`, of that shape.
    """

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        return () if "_weight_zero_point" in self.parts else super().packs

    @property
    def held_bytes(self) -> int:
        return sum(part.num_bytes for name, part in self.parts.items() if name != _NAMES[0])

    def integers(self, start: int, stop: int) -> Integers:
        octets = self.parts["_weight_qdata"].read_rows(start, stop).view(np.uint8)
        numbers = (nibbles(octets) ^ np.uint8(8)).astype(np.int16) - np.int16(8)
        scales = self._of_rows("_weight_scale", start, stop)
        return Integers(numbers, scales, self.shape[-1] // scales.shape[1])

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        values = super().matrix_rows(start, stop)
        if "_weight_zero_point" in self.parts:
            zeros = self._of_rows("_weight_zero_point", start, stop)
            grouped = values.reshape(*zeros.shape, -1)
            grouped += zeros[:, :, None]
        return values

    def _of_rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        part = self.parts[name]
        columns = decoded(self.shared.whole.read(part)[:, start:stop], part.stored_type)
        return np.ascontiguousarray(columns.T)


def torchao_parts(
    module: str, parts: Mapping[str, StoredTensor], _config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its quantized weight as floats.

    Raises `MissingFile` for a part that is absent, `UnsupportedModel` for a class of tensor
    whose layout is not read.
    """
    codes = parts.get("_weight_qdata")
    if codes is None:
        return parts
    description = _description(codes, f"{module}.weight")
    kind = description.get("_type")
    if kind not in _READ or "_weight_act_pre_scale" in parts:
        why = _REASONS.get(str(kind), "it is not known here")
        if "_weight_act_pre_scale" in parts:
            why = "its inputs are scaled while it runs"
        raise UnsupportedModel(
            f"{codes.file.path} has {module}.weight as torchao's {kind}, which cannot be read: "
            f"{why}. What can be read: {', '.join(_READ)}. Use the unquantized checkpoint of this "
            "model."
        )
    scale = parts.get("_weight_scale")
    if scale is None:
        raise MissingFile(f"The checkpoint does not contain {module}._weight_scale.")
    zero = parts.get("_weight_zero_point")
    zero = None if zero is None or not all_of(zero).any() else zero
    name = f"{module}.weight"
    if kind == _INT4:
        weight = _plain_int4(name, codes, scale, zero, shared)
    else:
        bits = _bits(description)
        weight = scaled_weight(codes, scale, shared, name=name, zero=zero, bits=bits)
    rest = {name: tensor for name, tensor in parts.items() if name not in _NAMES}
    return {**rest, "weight": weight}


def _description(codes: StoredTensor, name: str) -> dict[str, Any]:
    try:
        description = json.loads(codes.file.texts.get(name, "{}"))
    except (TypeError, ValueError, RecursionError):
        return {}
    return description if isinstance(description, dict) else {}


def _bits(description: Mapping[str, Any]) -> int:
    """How many bits of a byte are used."""
    data = description.get("_data")
    target = data.get("target_dtype") if isinstance(data, dict) else None
    name = target.get("_data") if isinstance(target, dict) else None
    digits = name.removeprefix("int") if isinstance(name, str) else ""
    return int(digits) if digits.isdigit() and 0 < int(digits) <= 8 else 8


def _plain_int4(
    name: str,
    codes: StoredTensor,
    scale: StoredTensor,
    zero: StoredTensor | None,
    shared: Shared,
) -> StoredTensor:
    num_rows, octets = matrix_shape(demand(codes, None, StoredType.I8, StoredType.U8))
    num_groups, _ = matrix_shape(demand(scale, None, *_FLOATS))
    demand(scale, (num_groups, num_rows))
    if octets * 2 % num_groups:
        raise DamagedCheckpoint(
            f"{codes.file.path}: {codes.name} has {octets * 2} columns, which are no "
            f"{num_groups} groups of one size."
        )
    parts = {"_weight_qdata": codes, "_weight_scale": scale}
    if zero is not None:
        parts["_weight_zero_point"] = demand(zero, scale.shape, *_FLOATS)
    return PlainInt4(
        name=name,
        stored_type=StoredType.F32,
        shape=(num_rows, octets * 2),
        offset=codes.offset,
        file=codes.file,
        parts=parts,
        shared=shared,
        kind=IntegerKind(
            low=-8,
            high=7,
            bits=4,
            scale_digits=digits_of(scale.stored_type),
            group_items=octets * 2 // num_groups,
        ),
    )
