"""MLX's weights: what mlx-lm and the models of mlx-community hold.

Knows no other scheme.

Source: https://ml-explore.github.io/mlx (`mlx.core.quantize`, `quantized_matmul`) and mlx-lm
(utils.py: `quantize_model`). A matrix of `out` rows and `in` columns is `weight`, (out, in bits /
32), words whose numbers follow one another along a row from the lowest bit up, and of each group
of columns a scale and a bias, `scales` and `biases`, (out, groups). A value is a number times its
scale, plus the bias: as its products compute it. (`mlx.core.dequantize` rounds both steps to
the scales' type, which no product does.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from convert.config import Config
from convert.dequantize.numbers.bits import WORD_BITS, unpack
from convert.dequantize.repack import BLOCK_ITEMS, pack_offset
from convert.dequantize.weight import QuantizedWeight, Shared, demand, floats_of, matrix_shape
from convert.errors import DamagedCheckpoint, MissingFile, UnsupportedModel
from convert.safetensors_file import StoredTensor, StoredType

_BITS = (2, 3, 4, 5, 6, 8)
_USUAL_GROUP = 64  # mlx.core.quantize's
_SCALES = (StoredType.F16, StoredType.BF16, StoredType.F32)
# the blocks with an offset, and the bits of their numbers
_TYPES = ((Type.Q4_1, 4), (Type.Q5_1, 5))


@dataclass(frozen=True, kw_only=True)
class MlxWeight(QuantizedWeight):
    """`parts`: `weight`, `scales`, `biases`."""

    bits: int
    group_size: int

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        numbers, scales, biases = self._read(start, stop)
        values = numbers.reshape(*scales.shape, -1).astype(np.float32)
        values *= scales[:, :, None]
        values += biases[:, :, None]
        return values.reshape(len(numbers), -1)

    @property
    def packs(self) -> Sequence[Type]:
        is_whole = self.group_size % BLOCK_ITEMS == 0
        if not is_whole or self.parts["scales"].stored_type is StoredType.F32:
            return ()
        return tuple(name for name, bits in _TYPES if self.bits <= bits)

    def read_packed(self, start: int, stop: int, ggml_type: Type) -> NDArray[np.uint8]:
        numbers, scales, biases = self._read(start, stop)
        each = self.group_size // BLOCK_ITEMS
        d, m = (np.repeat(part, each, axis=1)[:, :, None] for part in (scales, biases))
        codes = numbers.reshape(len(numbers), -1, BLOCK_ITEMS)
        return pack_offset(codes, d, m, ggml_type, self.name, self.shared.rounding)

    def _read(
        self, start: int, stop: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """Numbers, (rows, columns), and scales and biases, (rows, groups)."""
        numbers = unpack(self.parts["weight"].read_rows(start, stop), self.bits)
        scales, biases = (floats_of(self.parts[part], start, stop) for part in ("scales", "biases"))
        return numbers, scales, biases


def is_mlx(parts: Mapping[str, StoredTensor]) -> bool:
    """Whether a module's tensors are such a weight."""
    weight = parts.get("weight")
    return weight is not None and weight.stored_type is StoredType.U32 and "scales" in parts


def mlx_parts(
    module: str, parts: Mapping[str, StoredTensor], config: Config, shared: Shared
) -> Mapping[str, StoredTensor]:
    """A module's tensors with its quantized weight as floats.

    Raises `MissingFile`, `DamagedCheckpoint` and `UnsupportedModel` for what cannot be read.
    """
    if not is_mlx(parts):
        return parts
    own = config.values.get(module)
    settings = Config(
        config.path, {**config.values, **own} if isinstance(own, dict) else config.values
    )
    mode = settings.text("mode", "affine")
    if mode != "affine":
        raise UnsupportedModel(
            f"{config.path} says that {module or 'a weight'} was quantized by MLX with mode = "
            f"{mode!r}; of MLX's, affine can be read. Use the unquantized checkpoint of this model."
        )
    if "biases" not in parts:
        raise MissingFile(f"The checkpoint does not contain {module}.biases. Download it again.")
    weight = _weight(f"{module}.weight", parts, settings, shared)
    rest = {name: tensor for name, tensor in parts.items() if name not in ("scales", "biases")}
    return {**rest, "weight": weight}


def _weight(
    name: str, parts: Mapping[str, StoredTensor], settings: Config, shared: Shared
) -> StoredTensor:
    words = parts["weight"]
    rows, num_words = matrix_shape(words)
    scales = demand(parts["scales"], None, *_SCALES)
    _, num_groups = matrix_shape(scales)
    group_size = settings.integer("group_size", _USUAL_GROUP)
    bits, columns = settings.integer("bits", 4), num_groups * group_size
    if bits not in _BITS or scales.shape[0] != rows or num_words * WORD_BITS != columns * bits:
        raise DamagedCheckpoint(
            f"{words.file.path}: {words.name} of shape {list(words.shape)} does not hold the "
            f"{columns} columns of {bits} bits that its scales, {list(scales.shape)}, and "
            f"{settings.path} (group_size = {group_size}) say. Download it again."
        )
    return MlxWeight(
        name=name,
        stored_type=StoredType.F32,
        shape=(rows, columns),
        offset=words.offset,
        file=words.file,
        parts={
            "weight": words,
            "scales": scales,
            "biases": demand(parts["biases"], scales.shape, scales.stored_type),
        },
        shared=shared,
        bits=bits,
        group_size=group_size,
    )
