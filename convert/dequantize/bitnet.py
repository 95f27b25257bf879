"""BitNet's ternary weights, as transformers stores them for models of other families.

Knows no other scheme.

Source: transformers (integrations/bitnet.py: `unpack_weights`, `BitLinear`, `AutoBitLinear`).
A byte has one number of each quarter of a matrix's rows, the first quarter's in its lowest two
bits, plus one. `weight_scale` is one number, by which `bitlinear` divides and `autobitlinear`
multiplies. Inputs are rounded to 8 bits while such a model runs, for each token; llama.cpp does
so for each 32 or 256 of them, as with any quantized weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.numbers.formats import decoded, digits_of
from convert.dequantize.repack import IntegerKind, Integers
from convert.dequantize.scaled import scaled_weight
from convert.dequantize.weight import IntegerWeight, Shared, all_of, demand, matrix_shape
from convert.errors import DamagedCheckpoint, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_EACH = 4  # numbers of a byte


@dataclass(frozen=True, kw_only=True)
class TernaryWeight(IntegerWeight):
    """`parts`: `weight`, bytes of (rows / 4, items), and `weight_scale`."""

    divides: bool

    def integers(self, start: int, stop: int) -> Integers:
        codes = self.parts["weight"]
        pieces: list[NDArray[np.int16]] = []
        while start < stop:
            quarter, first = divmod(start, codes.num_rows)
            last = min(first + stop - start, codes.num_rows)
            octets = codes.read_rows(first, last)
            pieces.append((octets >> np.uint8(2 * quarter) & np.uint8(3)).astype(np.int16) - 1)
            start += last - first
        numbers = np.concatenate(pieces)
        scale = self.parts["weight_scale"]
        factor = decoded(all_of(scale), scale.stored_type).reshape(())
        if self.divides:
            factor = np.float32(1) / factor
        return Integers(numbers, np.full((len(numbers), 1), factor), self.shape[-1])


def bitnet_parts(
    _module: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its ternary weight as floats.

    Raises `UnsupportedModel` for weights that are rounded only when a model runs, and for norms
    in front of them; `DamagedCheckpoint` for shapes that do not fit.
    """
    if config.text("quantization_mode", "offline") == "online" or config.flag(
        "use_rms_norm", False
    ):
        raise UnsupportedModel(
            f"{config.path} describes weights that are quantized when the model is loaded, or "
            "norms in front of them (bitnet), which cannot be converted. Use a ready-made GGUF."
        )
    codes, scale = parts.get("weight"), parts.get("weight_scale")
    if codes is None or scale is None:
        return parts
    divides = config.text("linear_class", "bitlinear") == "bitlinear"
    rest = {name: tensor for name, tensor in parts.items() if name != "weight_scale"}
    if codes.stored_type.holds_weights and not divides:  # `autobitlinear` has them unpacked, too
        return {**rest, "weight": scaled_weight(codes, scale, shared)}
    demand(codes, None, StoredType.U8)
    rows, items = matrix_shape(codes)
    demand(scale, (1,) if scale.shape else (), StoredType.F16, StoredType.BF16, StoredType.F32)
    if (
        not np.isfinite(factor := decoded(all_of(scale), scale.stored_type)).all()
        or not factor.all()
    ):
        raise DamagedCheckpoint(f"{scale.file.path}: {scale.name} is {factor.item()}.")
    weight = TernaryWeight(
        name=codes.name,
        stored_type=StoredType.F32,
        shape=(rows * _EACH, items),
        offset=codes.offset,
        file=codes.file,
        parts={"weight": codes, "weight_scale": scale},
        shared=shared,
        kind=IntegerKind(
            low=-1,
            high=1,
            bits=2,
            scale_digits=24 if divides else digits_of(scale.stored_type),
            group_items=items,
        ),
        divides=divides,
    )
    return {**rest, "weight": weight}
