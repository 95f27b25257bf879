"""torchao's tensors, as transformers writes them into safetensors files.

Knows no other scheme.

Source: https://github.com/pytorch/ao (torchao/prototype/safetensors/safetensors_support.py):
the data of the tensor `module.weight` is in `module._weight_qdata`, `..._scale`,
`..._zero_point`, and its class is in the header's texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from convert.config import Config
from convert.dequantize.scaled import scaled_weight
from convert.dequantize.weight import Shared, all_of
from convert.errors import MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor

_READ = ("Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor")
_NAMES = ("_weight_qdata", "_weight_scale", "_weight_zero_point")


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
        raise UnsupportedModel(
            f"{codes.file.path} has {module}.weight as torchao's {kind}"
            f"{' with scales for its inputs' if '_weight_act_pre_scale' in parts else ''}; only "
            f"{', '.join(_READ)} can be read. Use the unquantized checkpoint of this model."
        )
    scale = parts.get("_weight_scale")
    if scale is None:
        raise MissingFile(f"The checkpoint does not contain {module}._weight_scale.")
    zero = parts.get("_weight_zero_point")
    weight = scaled_weight(
        codes,
        scale,
        shared,
        name=f"{module}.weight",
        zero=None if zero is None or not all_of(zero).any() else zero,
        bits=_bits(description),
    )
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
