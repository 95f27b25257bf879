"""HQQ, as `HQQLinear.state_dict` and transformers write it.

Knows no other scheme.

Source: https://github.com/mobiusml/hqq (core/quantize.py: `Quantizer.dequantize`;
core/bitpack.py). A matrix is cut into groups, rows of a matrix of its own (axis 1) or columns
of one (axis 0). Of that, the first rows are in the upper bits of the words of `W_q`, the
last in the lower ones. A value is (number - zero) times scale, and both operations round to
the type that HQQ computes in; `zero` is no whole number, so GGUF has no blocks for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.weight import QuantizedWeight, Shared, all_of, demand, floats_of
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType, as_stored, to_float32

_NEEDED = ("W_q", "scale", "zero", "shape", "axis", "group_size", "packing")
# what HQQ was told, and what only matters on a GPU
_SETTINGS = (
    *("nbits", "compute_dtype", "view_as_float", "unpack_view_dtype", "channel_wise"),
    *("quant_scale", "quant_zero", "optimize", "round_zero", "stores_quant_config"),
    *("encoded_state_dict", "offload_meta"),
)


@dataclass(frozen=True)
class _Packing:
    bits: int
    each: int  # numbers of a word
    word: StoredType


_PACKINGS = {
    "8bit_u8": _Packing(8, 1, StoredType.U8),
    "4bit_u8": _Packing(4, 2, StoredType.U8),
    "3bit_32": _Packing(3, 10, StoredType.I32),
    "2bit_u8": _Packing(2, 4, StoredType.U8),
    "1bit_u8": _Packing(1, 8, StoredType.U8),
}


@dataclass(frozen=True, kw_only=True)
class HqqWeight(QuantizedWeight):
    """`parts`: `W_q` as a vector of words, `scale`, `zero`."""

    packing: _Packing
    axis: int
    width: int  # columns of the matrix of groups

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        first, last = start * self.shape[-1], stop * self.shape[-1]
        numbers = self._numbers(first, last).astype(np.float32)
        places = np.arange(first, last)
        scale, zero = self._of_groups("scale", places), self._of_groups("zero", places)
        difference = to_float32(as_stored(numbers - zero, self.stored_type), self.stored_type)
        return as_stored(difference * scale, self.stored_type).reshape(stop - start, -1)

    def _numbers(self, first: int, last: int) -> NDArray[Any]:
        """The numbers `first` to `last` of the whole: from one run of words for each place
        in a word.
        """
        words, packing = self.parts["W_q"], self.packing
        pieces = []
        while first < last:
            place, begin = divmod(first, words.num_rows)
            end = min(begin + last - first, words.num_rows)
            shift = (packing.each - 1 - place) * packing.bits
            run = words.read_rows(begin, end).reshape(-1)
            pieces.append(run >> shift & ((1 << packing.bits) - 1))
            first += end - begin
        return np.concatenate(pieces)

    def _of_groups(self, name: str, places: NDArray[np.intp]) -> NDArray[np.float32]:
        part = self.parts[name]
        if self.axis == 0:
            whole: NDArray[np.float32] = floats_of(part, 0, part.num_rows).reshape(-1)
            return whole[places % self.width]
        first, last = int(places[0]) // self.width, int(places[-1]) // self.width + 1
        rows: NDArray[np.float32] = floats_of(part, first, last).reshape(-1)
        return rows[places // self.width - first]


def hqq_parts(
    module: str, parts: Mapping[str, StoredTensor], _config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its quantized weight as floats.

    Raises `MissingFile`, `DamagedCheckpoint` and `UnsupportedModel` for what cannot be read.
    """
    if "W_q" not in parts:
        return parts
    for name in _NEEDED:
        if name not in parts:
            raise MissingFile(f"The checkpoint does not contain {module}.{name}.")
    rest = {name: tensor for name, tensor in parts.items() if name not in (*_NEEDED, *_SETTINGS)}
    return {**rest, "weight": _weight(f"{module}.weight", parts, shared)}


def _weight(name: str, parts: Mapping[str, StoredTensor], shared: Shared) -> StoredTensor:
    words = parts["W_q"]
    text = bytes(all_of(demand(parts["packing"], None, StoredType.U8))).decode("ascii", "replace")
    if text not in _PACKINGS or any(_number(parts, key) for key in ("quant_scale", "quant_zero")):
        raise UnsupportedModel(
            f"{words.file.path}: {words.name} is packed as {text!r}, or has scales that are "
            f"quantized themselves; of HQQ, {', '.join(_PACKINGS)} with plain ones can be read. "
            "Use the unquantized checkpoint of this model."
        )
    packing = _PACKINGS[text]
    shape = tuple(int(size) for size in all_of(parts["shape"]).reshape(-1))
    axis, group_size, num_items = _number(parts, "axis"), _number(parts, "group_size"), 0
    if len(shape) == 2 and min(shape) > 0 and axis in (0, 1) and group_size > 0:
        num_items = math.prod(shape)
    scale = demand(parts["scale"], None, StoredType.F16, StoredType.BF16, StoredType.F32)
    num_groups = num_items // max(group_size, 1)
    num_words = words.num_bytes // packing.word.dtype.itemsize
    if (
        num_items == 0
        or num_items % group_size
        or math.prod(scale.shape) != num_groups
        or num_words * packing.each < num_items
    ):
        raise DamagedCheckpoint(
            f"{words.file.path}: {words.name} of shape {list(words.shape)} does not hold a matrix "
            f"of shape {list(shape)} in groups of {group_size}, or its numbers have no sense."
        )
    return HqqWeight(
        name=name,
        stored_type=scale.stored_type,
        shape=shape,
        offset=words.offset,
        file=words.file,
        parts={
            # also where it is said to be floats (`view_as_float`)
            "W_q": StoredTensor(
                name=words.name,
                stored_type=packing.word,
                shape=(num_words,),
                offset=words.offset,
                file=words.file,
            ),
            "scale": scale,
            "zero": demand(parts["zero"], scale.shape, scale.stored_type),
        },
        shared=shared,
        packing=packing,
        axis=axis,
        width=num_groups if axis == 0 else group_size,
    )


def _number(parts: Mapping[str, StoredTensor], name: str) -> int:
    """A setting that is stored as a tensor; 0 where it is absent."""
    return int(all_of(parts[name]).reshape(-1)[0]) if name in parts else 0
