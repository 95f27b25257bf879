"""A checkpoint's tensors with its quantized weights in the form of floats.

Knows no scheme by name and no model family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gguf import GGMLQuantizationType

from convert.config import Config
from convert.dequantize.fp8 import is_scaled_fp8
from convert.dequantize.mlx import is_mlx
from convert.dequantize.numbers.packed_whole import PackedWhole
from convert.dequantize.refused import (
    check_is_described,
    check_is_no_smoothquant,
    check_method,
)
from convert.dequantize.repack import ScaleRounding
from convert.dequantize.schemes import BY_METHOD, SCHEMES, Scheme
from convert.dequantize.weight import QuantizedWeight, Shared
from convert.errors import UnsupportedModel
from convert.safetensors_file import StoredTensor

# Beside a module's weight: what its inputs and outputs were to be quantized by.
_OF_ACTIVATIONS = frozenset(
    {
        "input_scale",
        "input_zero_point",
        "input_global_scale",
        "output_scale",
        "output_zero_point",
        "weight_shape",
        "weight_format",
    }
)
# of attention, for a KV cache in FP8
_OF_CACHE = frozenset({"k_scale", "v_scale", "q_scale", "prob_scale", "k_zero_point"})
# What of a weight's own name may have a name behind it (bitsandbytes).
_WEIGHT = (".weight.quant_state", ".weight")


@dataclass(frozen=True)
class Dequantized:
    """All tensors of a checkpoint, and what to say of them."""

    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...]
    rounding: ScaleRounding


def dequantized(stored: Mapping[str, StoredTensor], config: Config) -> Dequantized | None:
    """`stored` with a computed weight for each that is quantized; None where none is.

    `config` is the checkpoint's quantization_config, perhaps empty. Raises
    `UnsupportedModel` for a scheme that is not known here, by its name, and for what of a
    known one cannot be read; `MissingFile` and `DamagedCheckpoint` as its reader does.
    """
    modules = _by_module(stored)
    scheme = _find_scheme(modules, config)
    if scheme is None:
        return None
    rounding = ScaleRounding()
    shared = Shared(PackedWhole(), rounding)
    tensors: dict[str, StoredTensor] = {}
    for module, parts in modules.items():
        made = scheme.read_module(module, parts, config, shared)
        is_changed = made is not parts and any(
            isinstance(tensor, QuantizedWeight) for tensor in made.values()
        )
        for name, tensor in made.items():
            if name in _OF_CACHE or (is_changed and name in _OF_ACTIVATIONS):
                continue
            tensors[f"{module}.{name}" if module else name] = tensor
    weights = [tensor for tensor in tensors.values() if isinstance(tensor, QuantizedWeight)]
    return Dequantized(tensors, (_note(scheme, weights),), rounding) if weights else None


def _by_module(stored: Mapping[str, StoredTensor]) -> dict[str, dict[str, StoredTensor]]:
    """Each module's tensors by the rest of their names."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in stored.items():
        module, _, part = name.rpartition(".")
        for ending in _WEIGHT:
            if module.endswith(ending):
                module = module.removesuffix(ending)
                part = name[len(module) + 1 :]
        modules.setdefault(module, {})[part] = tensor
    return modules


def _find_scheme(
    modules: Mapping[str, Mapping[str, StoredTensor]], config: Config
) -> Scheme | None:
    method = config.values.get("quant_method")
    if isinstance(method, str) and method in BY_METHOD:
        return BY_METHOD[method]
    is_packed = any(
        tensor.stored_type.may_be_packed for parts in modules.values() for tensor in parts.values()
    )
    if method is None and any(is_scaled_fp8(parts) for parts in modules.values()):
        return BY_METHOD["fp8"]
    if method is None and any(is_mlx(parts) for parts in modules.values()):
        return BY_METHOD["mlx"]
    if is_packed:
        check_is_no_smoothquant(modules.values())
    if is_packed and not config.values:
        check_is_described(modules)
    if not config.values or not is_packed:
        return None
    if isinstance(method, str):
        check_method(method, config)
    known = ", ".join(scheme.method for scheme in SCHEMES)
    raise UnsupportedModel(
        f"{config.path} describes weights that are already quantized"
        f"{f' ({method})' if method else ''}, in a way that cannot be read. Use the original, "
        f"unquantized checkpoint. What can be read: {known}."
    )


def _note(scheme: Scheme, weights: list[QuantizedWeight]) -> str:
    kept: dict[GGMLQuantizationType, int] = {}
    for weight in weights:
        for ggml_type in (weight.turned or weight).packs:
            kept[ggml_type] = kept.get(ggml_type, 0) + 1
    text = (
        f"{len(weights)} weights of the checkpoint are already quantized ({scheme.method}); what "
        "they stand for is converted. "
    )
    if not kept:
        return (
            text + "Quantized types round it again: the unquantized checkpoint makes better ones."
        )
    names = ", ".join(ggml_type.name for ggml_type in kept)
    if GGMLQuantizationType.NVFP4 in kept:
        names += " (the last of Llama, Mistral and Qwen 3 alone)"
    return text + (
        f"Blocks of {names} hold the same numbers (--types SOURCE, and wherever a file has one of "
        "these types); other quantized types round them again."
    )
