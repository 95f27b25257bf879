"""FP8 weights beside their scales, as DeepSeek, Qwen, vLLM, FBGEMM and others publish them.

Knows no other scheme.

Sources: DeepSeek-V3 (inference/kernel.py: `weight_dequant`), transformers
(integrations/finegrained_fp8.py, fbgemm_fp8.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from convert.config import Config
from convert.dequantize.scaled import scaled_weight
from convert.dequantize.weight import Shared
from convert.errors import MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_FP8 = (StoredType.F8_E4M3, StoredType.F8_E5M2)
# By what a scale is called; it is multiplied by in all cases, the one called inverse too.
SCALES = ("weight_scale_inv", "weight_scale", "scale")

# what blocks are where no config says so; it matters where the last ones are not whole
_USUAL_BLOCK = (128, 128)


def is_fp8(parts: Mapping[str, StoredTensor]) -> bool:
    """Whether a module's weight is FP8."""
    return "weight" in parts and parts["weight"].stored_type.value.startswith("F8_")


def is_scaled_fp8(parts: Mapping[str, StoredTensor]) -> bool:
    """Whether it is, and has a scale, so that no config needs to say so."""
    return is_fp8(parts) and any(name in parts for name in SCALES)


def fp8_parts(
    module: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its FP8 weight as floats.

    Raises `MissingFile` without a scale, `UnsupportedModel` for another kind of FP8.
    """
    if not is_fp8(parts):
        return parts
    weight = parts["weight"]
    if weight.stored_type not in _FP8:
        raise UnsupportedModel(
            f"{weight.file.path} stores {weight.name} as {weight.stored_type.value}; of FP8, "
            "F8_E4M3 and F8_E5M2 can be read. Use the unquantized checkpoint of this model."
        )
    scale = next((name for name in SCALES if name in parts), None)
    if scale is None:
        raise MissingFile(
            f"The checkpoint's {weight.name} is FP8, but has no scale: {module}.{SCALES[0]} and "
            f"{module}.{SCALES[1]} are missing. Download it again."
        )
    block = config.values.get("weight_block_size")
    block = block if isinstance(block, list) else _USUAL_BLOCK
    computed = scaled_weight(weight, parts[scale], shared, block=block)
    rest = {name: tensor for name, tensor in parts.items() if name != scale}
    return {**rest, "weight": computed}
