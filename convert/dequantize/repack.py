"""Quantized numbers as GGUF's blocks hold them: the same ones, not quantized again.

Knows no scheme and no files.

Layouts: ggml's quants (ggml-common.h: `block_q4_0`, `block_q5_0`, `block_q8_0`,
`block_mxfp4`). All have blocks of 32; a number of Q4_0 is d (q - 8), of Q5_0 d (q - 16), of
Q8_0 d q, with d an F16.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from convert.errors import DamagedCheckpoint
from convert.quantize import Unrepresentable

BLOCK_ITEMS = 32
# by type: the least and the largest whole number that it holds
_RANGES = {Type.Q4_0: (-8, 7), Type.Q5_0: (-16, 15), Type.Q8_0: (-128, 127)}


class ScaleRounding:
    """How many scales were not numbers of F16. Counts from several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.num_scales = 0
        self.num_rounded = 0

    def count(self, num_scales: int, num_rounded: int) -> None:
        with self._lock:
            self.num_scales += num_scales
            self.num_rounded += num_rounded


@dataclass(frozen=True)
class Integers:
    """Rows of whole numbers, each times the scale of its group."""

    numbers: NDArray[np.int16]  # (rows, items)
    scales: NDArray[np.float32]  # (rows, groups)
    groups: int | NDArray[np.intp]  # items of a group, or each item's group

    def floats(self) -> NDArray[np.float32]:
        """Rounded once, to float32: exact where scales are F16 or BF16."""
        values = self.numbers.astype(np.float32)
        if isinstance(self.groups, int):
            grouped = values.reshape(len(values), -1, self.groups)
            grouped *= self.scales[:, :, None]
        else:
            values *= self.scales[:, self.groups]
        return values


def integer_types(low: int, high: int, row_items: int, group_items: int | None) -> Sequence[Type]:
    """The types that hold whole numbers from `low` to `high`, the smallest first; none where
    a block would have several scales.
    """
    if group_items is None or group_items % BLOCK_ITEMS or row_items % BLOCK_ITEMS:
        return ()
    return tuple(name for name, (least, most) in _RANGES.items() if least <= low and high <= most)


def pack_integers(
    rows: Integers, ggml_type: Type, name: str, rounding: ScaleRounding
) -> NDArray[np.uint8]:
    """The rows as blocks, shape (rows, bytes of a row); `name` is for messages.

    Scales are rounded to F16, and `rounding` counts those that this changed. Raises
    `Unrepresentable` where one becomes infinite, `DamagedCheckpoint` for numbers that the type
    does not hold.
    """
    assert isinstance(rows.groups, int)
    with np.errstate(over="ignore"):
        scales = rows.scales.astype(np.float16)
    if not np.isfinite(scales).all():
        raise Unrepresentable(
            f"{name}: its scales are too large for {ggml_type.name}. Choose BF16 or F32."
        )
    changed = scales.astype(np.float32) != rows.scales
    rounding.count(scales.size, int(np.count_nonzero(changed)))
    scales = np.repeat(scales, rows.groups // BLOCK_ITEMS, axis=1)
    blocks = rows.numbers.reshape(len(rows.numbers), -1, BLOCK_ITEMS)
    least, most = _RANGES[ggml_type]
    if blocks.min() < least or blocks.max() > most:
        raise DamagedCheckpoint(
            f"{name} holds numbers from {blocks.min()} to {blocks.max()}, but what the checkpoint "
            f"says of its quantization allows only {least} to {most}. If it says that it is "
            "symmetric (sym, symmetric), try false."
        )
    parts = [scales[:, :, None].view(np.uint8), *_PACKERS[ggml_type](blocks)]
    return np.concatenate(parts, axis=2).reshape(len(blocks), -1)


def pack_mxfp4(codes: NDArray[np.uint8], powers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """E2M1 numbers, (rows, items), and the E8M0 of each 32 of them, as blocks of MXFP4."""
    blocks = codes.reshape(len(codes), -1, BLOCK_ITEMS)
    packed = np.concatenate([powers[:, :, None], _halves(blocks)], axis=2)
    return packed.reshape(len(codes), -1)


def _halves(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A block's first half in the lower four bits of its bytes, its second in the upper."""
    half = BLOCK_ITEMS // 2
    low, high = blocks[:, :, :half] & np.uint8(15), blocks[:, :, half:] << np.uint8(4)
    packed: NDArray[np.uint8] = low | high
    return packed


def _q4_0(blocks: NDArray[np.int16]) -> list[NDArray[np.uint8]]:
    return [_halves((blocks + 8).astype(np.uint8))]


def _q5_0(blocks: NDArray[np.int16]) -> list[NDArray[np.uint8]]:
    codes = (blocks + 16).astype(np.uint8)
    fifth_bits = np.packbits(codes >> np.uint8(4), axis=2, bitorder="little")
    return [fifth_bits, _halves(codes)]


def _q8_0(blocks: NDArray[np.int16]) -> list[NDArray[np.uint8]]:
    return [blocks.astype(np.int8).view(np.uint8)]


_PACKERS = {Type.Q4_0: _q4_0, Type.Q5_0: _q5_0, Type.Q8_0: _q8_0}
