"""Weights of FP4 (E2M1) numbers: MXFP4, whose scales are powers of two, and NVFP4, whose
scales are FP8 times one of the whole weight.

Knows no scheme's names.

MXFP4: OCP Microscaling Formats (MX) Specification 1.0. NVFP4: as compressed-tensors
(`NVFP4PackedCompressor`) and NVIDIA's TensorRT Model Optimizer (`NVFP4QTensor`) store it. A
byte holds a row's even number in its lower four bits, the next odd one in its upper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from convert.dequantize.numbers.bits import nibbles
from convert.dequantize.numbers.formats import E2M1, from_e8m0
from convert.dequantize.repack import NV_ITEMS, pack_mxfp4, pack_nvfp4
from convert.dequantize.weight import (
    QuantizedWeight,
    Shared,
    all_of,
    demand,
    floats_of,
    matrix_shape,
)
from convert.errors import DamagedCheckpoint
from convert.safetensors_file import StoredTensor, StoredType

MX_GROUP, NV_GROUP = 32, 16


@dataclass(frozen=True, kw_only=True)
class Mx4Weight(QuantizedWeight):
    """`parts`: `codes`, two in a byte, and `scales`, E8M0. Exact: no value is rounded."""

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        return (GGMLQuantizationType.MXFP4,)

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        codes, powers = self._codes(start, stop), self._powers(start, stop)
        values = E2M1[codes].reshape(len(codes), -1, MX_GROUP) * from_e8m0(powers)[:, :, None]
        return values.reshape(codes.shape)

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        assert ggml_type is GGMLQuantizationType.MXFP4
        return pack_mxfp4(self._codes(start, stop), self._powers(start, stop))

    def _codes(self, start: int, stop: int) -> NDArray[np.uint8]:
        return nibbles(_rows(self.parts["codes"], start, stop, self.shape[-1] // 2))

    def _powers(self, start: int, stop: int) -> NDArray[np.uint8]:
        return _rows(self.parts["scales"], start, stop, self.shape[-1] // MX_GROUP)


@dataclass(frozen=True, kw_only=True)
class TurnedMx4Weight(QuantizedWeight):
    """The same weight with each matrix on its side, (..., items, rows), as transformers holds
    gpt-oss's experts. What reads it should ask for `turned`.
    """

    upright: StoredTensor

    @property
    def turned(self) -> StoredTensor:
        return self.upright

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        rows, items = self.upright.shape[-2:]
        first, last = start // items, (stop - 1) // items + 1
        matrices = self.upright.read_rows(first * rows, last * rows).reshape(-1, rows, items)
        turned = matrices.transpose(0, 2, 1).reshape(-1, rows)
        return np.ascontiguousarray(turned[start - first * items : stop - first * items])


@dataclass(frozen=True, kw_only=True)
class Nv4Weight(QuantizedWeight):
    """`parts`: `codes`, two in a byte, `scales`, FP8, and `global`, one number, by which scales
    are multiplied, or divided where it is the inverse.
    """

    divides: bool

    @property
    def packs(self) -> Sequence[GGMLQuantizationType]:
        """Their numbers are those of the weight divided by `block_scale`."""
        return (GGMLQuantizationType.NVFP4,) if self.shape[-1] % NV_ITEMS == 0 else ()

    @property
    def block_scale(self) -> float:
        factor = self._factor()
        return float(np.float32(1) / factor if self.divides else factor)

    def read_packed(
        self, start: int, stop: int, ggml_type: GGMLQuantizationType
    ) -> NDArray[np.uint8]:
        assert ggml_type is GGMLQuantizationType.NVFP4
        codes = nibbles(self.parts["codes"].read_rows(start, stop))
        return pack_nvfp4(codes, self.parts["scales"].read_rows(start, stop), self.name)

    def _factor(self) -> NDArray[np.float32]:
        """Of shape ()."""
        factor: NDArray[np.float32] = all_of(self.parts["global"]).astype(np.float32).reshape(())
        return factor

    def matrix_rows(self, start: int, stop: int) -> NDArray[Any]:
        codes = nibbles(self.parts["codes"].read_rows(start, stop))
        scales, factor = floats_of(self.parts["scales"], start, stop), self._factor()
        scales = scales / factor if self.divides else scales * factor
        values = E2M1[codes].reshape(len(codes), -1, NV_GROUP) * scales[:, :, None]
        return values.reshape(codes.shape)


def mx4_weight(
    name: str, codes: StoredTensor, scales: StoredTensor, shared: Shared
) -> StoredTensor:
    """`codes` of shape (..., rows, items / 2) or, as gpt-oss has it, (..., rows, items / 32,
    16); `scales` (..., rows, items / 32). Raises as `demand`.
    """
    demand(codes, None, StoredType.U8)
    demand(scales, None, StoredType.U8, StoredType.F8_E8M0)
    if len(scales.shape) < 2 or min(scales.shape) < 1:
        raise DamagedCheckpoint(
            f"{scales.file.path}: {scales.name} has shape {list(scales.shape)}, but it must be a "
            "matrix, or a stack of them."
        )
    shape = (*scales.shape[:-1], scales.shape[-1] * MX_GROUP)
    in_blocks = (*scales.shape, MX_GROUP // 2)
    demand(codes, in_blocks if codes.shape == in_blocks else (*shape[:-1], shape[-1] // 2))
    return Mx4Weight(
        name=name,
        stored_type=StoredType.F32,
        shape=shape,
        offset=codes.offset,
        file=codes.file,
        parts={"codes": codes, "scales": scales},
        shared=shared,
    )


def turned_mx4_weight(weight: StoredTensor, shared: Shared) -> StoredTensor:
    """A stack of matrices, such as `mx4_weight` makes, on their sides."""
    *stack, rows, items = weight.shape
    return TurnedMx4Weight(
        name=weight.name,
        stored_type=StoredType.F32,
        shape=(*stack, items, rows),
        offset=weight.offset,
        file=weight.file,
        parts={},
        shared=shared,
        upright=weight,
    )


def nv4_weight(
    name: str,
    codes: StoredTensor,
    scales: StoredTensor,
    factor: StoredTensor,
    *,
    divides: bool,
    shared: Shared,
) -> StoredTensor:
    """`codes` of shape (rows, items / 2), `scales` (rows, items / 16). Raises as `demand`."""
    rows, octets = matrix_shape(demand(codes, None, StoredType.U8))
    demand(scales, (rows, octets * 2 // NV_GROUP), StoredType.F8_E4M3)
    demand(factor, (1,) if factor.shape else (), StoredType.F32)
    return Nv4Weight(
        name=name,
        stored_type=StoredType.F32,
        shape=(rows, octets * 2),
        offset=codes.offset,
        file=codes.file,
        parts={"codes": codes, "scales": scales, "global": factor},
        shared=shared,
        divides=divides,
    )


def _rows(part: StoredTensor, start: int, stop: int, octets: int) -> NDArray[np.uint8]:
    """Rows of the weight, `octets` each, whatever the shape of the part says."""
    per_row = octets // part.row_items
    return part.read_rows(start * per_row, stop * per_row).reshape(stop - start, octets)
