"""Quantized numbers as GGUF's blocks hold them: the same ones, not quantized again.

Knows no scheme and no files.

Layouts: ggml's quants (ggml-common.h: `block_q4_0`, `block_q4_1`, `block_q5_0`, `block_q8_0`,
`block_q4_K`, `block_q6_K`, `block_tq2_0`, `block_mxfp4`, `block_nvfp4`). A number of Q4_0 is
d (q - 8), of Q5_0 d (q - 16), of Q8_0 d q, of Q4_1 d q + m, in blocks of 32, with d and m of F16.
Q4_K and Q6_K have one d for 256: d s q - e m and d s (q - 32), where d and e are F16, s and m
small whole numbers for each 32 (Q6_K: 16); so has TQ2_0, d (q - 1).

What decides is that all of these are exact in float32, so only d, e and m are rounded. A
scale of BF16 is an F16 too unless it is very large or small. An m of Q4_1 is the scale times a
whole number, which takes more digits than an F16 has, unless the scale has few of its own: see
`offset_of`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from convert.errors import DamagedCheckpoint
from convert.quantize import Unrepresentable

BLOCK_ITEMS, SUPER_BLOCK_ITEMS = 32, 256
# by type, the smallest first: the least and the largest whole number that it holds
_RANGES = {
    Type.TQ2_0: (-1, 1),
    Type.Q4_0: (-8, 7),
    Type.Q4_K: (-16, 15),
    Type.Q4_1: (-16, 15),
    Type.Q5_0: (-16, 15),
    Type.Q6_K: (-32, 31),
    Type.Q8_0: (-128, 127),
}
_MOST_STEPS = 15  # from the least number of a block of Q4_1 or Q4_K to its largest
NV_ITEMS, _NV_GROUP = 64, 16  # of NVFP4: of a block, and of what shares a scale in it
BF16_DIGITS = 8  # binary digits of its numbers


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


@dataclass(frozen=True, kw_only=True)
class IntegerKind:
    """What is known of a weight's whole numbers before any is read."""

    low: int  # no number is less
    high: int  # none is larger
    bits: int  # numbers that share a scale are at most 2^bits - 1 apart
    scale_digits: int  # binary digits of a scale
    group_items: int | None  # columns that share a scale; None where their groups are mixed


def integer_types(kind: IntegerKind, row_items: int) -> Sequence[Type]:
    """The types that hold such whole numbers, the smallest first; none where a block would
    have several scales, or a row's last group is not whole.
    """
    group = kind.group_items
    if group is None or group % BLOCK_ITEMS or row_items % group:
        return ()
    is_super = group % SUPER_BLOCK_ITEMS == 0
    is_narrow = (1 << kind.bits) - 1 <= _MOST_STEPS
    left_out: set[Type] = set()
    if not is_super or not is_narrow:
        left_out.add(Type.Q4_K)
    if not is_super:
        left_out |= {Type.TQ2_0, Type.Q6_K}
    if kind.scale_digits > BF16_DIGITS or not is_narrow:
        left_out.add(Type.Q4_1)
    return tuple(
        name
        for name, (least, most) in _RANGES.items()
        if name not in left_out and least <= kind.low and kind.high <= most
    )


def pack_integers(
    rows: Integers, ggml_type: Type, name: str, rounding: ScaleRounding
) -> NDArray[np.uint8]:
    """The rows as blocks, shape (rows, bytes of a row); `name` is for messages.

    Scales are rounded to F16, and `rounding` counts those that this changed. Raises
    `Unrepresentable` where one becomes infinite, `DamagedCheckpoint` for numbers that the type
    does not hold.
    """
    assert isinstance(rows.groups, int)
    size = GGML_QUANT_SIZES[ggml_type][0]
    blocks = rows.numbers.reshape(len(rows.numbers), -1, size)
    least, most = _RANGES[ggml_type]
    if blocks.min() < least or blocks.max() > most:
        raise DamagedCheckpoint(
            f"{name} holds numbers from {blocks.min()} to {blocks.max()}, but what the checkpoint "
            f"says of its quantization allows only {least} to {most}. If it says that it is "
            "symmetric (sym, symmetric), try false."
        )
    scales = np.repeat(rows.scales, rows.groups // size, axis=1)[:, :, None]
    try:
        parts = _PACKERS[ggml_type](blocks, scales, rounding)
    except OverflowError as error:
        raise Unrepresentable(
            f"{name}: its scales are too large for {ggml_type.name}. Choose BF16 or F32."
        ) from error
    return np.concatenate(parts, axis=2).reshape(len(blocks), -1)


def offset_of(
    least: NDArray[np.int16], most: NDArray[np.int16]
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """How blocks of whole numbers from `least` to `most` (at most 15 apart) become Q4_1: the
    number that q = 0 stands for, and 1 or -1, by which one step of q goes.

    Of all ways there are, the one whose offset has the fewest binary digits beside its powers of
    two: at most three, so that a scale of eight digits times it has no more than the eleven of
    an F16. Counting up, q = 0 may be anything from `most` - 15 to `least`; down, from `most` to
    `least` + 15. A zero point of 7 of 15, say, is three digits up and, as 8, one digit down.
    """
    offsets, steps = np.zeros_like(least), np.zeros_like(least)
    for offset in _BY_DIGITS:
        is_free = steps == 0
        is_up = is_free & (most - _MOST_STEPS <= offset) & (offset <= least)
        is_down = is_free & ~is_up & (most <= offset) & (offset <= least + _MOST_STEPS)
        offsets[is_up | is_down] = offset
        steps[is_up], steps[is_down] = 1, -1
    return offsets, steps


def _odd_part(number: int) -> int:
    return abs(number) // (abs(number) & -abs(number)) if number else 0


_BY_DIGITS = sorted(range(-31, 31), key=lambda number: (_odd_part(number), abs(number)))


def pack_offset(
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    offsets: NDArray[np.float32],
    ggml_type: Type,
    name: str,
    rounding: ScaleRounding,
) -> NDArray[np.uint8]:
    """Blocks of 32 numbers from zero up, (rows, blocks, 32), and the d and m of each, (rows,
    blocks, 1), as Q4_1 or Q5_1. Raises `Unrepresentable`.
    """
    try:
        parts = [_f16(scales, rounding), _f16(offsets, rounding)]
    except OverflowError as error:
        raise Unrepresentable(
            f"{name}: its scales are too large for {ggml_type.name}. Choose BF16 or F32."
        ) from error
    if ggml_type == Type.Q5_1:
        parts.append(np.packbits(codes >> np.uint8(4), axis=2, bitorder="little"))
    return np.concatenate([*parts, _halves(codes)], axis=2).reshape(len(codes), -1)


def pack_mxfp4(codes: NDArray[np.uint8], powers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """E2M1 numbers, (rows, items), and the E8M0 of each 32 of them, as blocks of MXFP4."""
    blocks = codes.reshape(len(codes), -1, BLOCK_ITEMS)
    packed = np.concatenate([powers[:, :, None], _halves(blocks)], axis=2)
    return packed.reshape(len(codes), -1)


def pack_nvfp4(codes: NDArray[np.uint8], scales: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """E2M1 numbers, (rows, items), and the E4M3 of each 16 of them, as blocks of NVFP4.

    Raises `DamagedCheckpoint` for a scale below zero: ggml has no sign there.
    """
    if (scales & np.uint8(0x80)).any():
        raise DamagedCheckpoint(f"{name} has scales below zero. Download it again.")
    groups = codes.reshape(len(codes), -1, _NV_GROUP)
    packed = _halves(groups).reshape(len(codes), -1, NV_ITEMS // 2)
    parts = [scales.reshape(len(codes), -1, NV_ITEMS // _NV_GROUP), packed]
    return np.concatenate(parts, axis=2).reshape(len(codes), -1)


def _halves(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A block's first half in the lower four bits of its bytes, its second in the upper."""
    half = blocks.shape[2] // 2
    low, high = blocks[:, :, :half] & np.uint8(15), blocks[:, :, half:] << np.uint8(4)
    packed: NDArray[np.uint8] = low | high
    return packed


def _f16(values: NDArray[np.float32], rounding: ScaleRounding) -> NDArray[np.uint8]:
    """Raises `OverflowError` where one is too large."""
    with np.errstate(over="ignore"):
        halves = np.ascontiguousarray(values.astype(np.float16))
    if not np.isfinite(halves).all():
        raise OverflowError
    rounding.count(halves.size, int(np.count_nonzero(halves.astype(np.float32) != values)))
    return halves.view(np.uint8)


# Each takes blocks (rows, blocks, items) and their scales (rows, blocks, 1), and returns what a
# block consists of, in order: bytes (rows, blocks, any).
Blocks = NDArray[np.int16]
Scales = NDArray[np.float32]
Packed = list[NDArray[np.uint8]]


def _q4_0(blocks: Blocks, scales: Scales, rounding: ScaleRounding) -> Packed:
    return [_f16(scales, rounding), _halves((blocks + 8).astype(np.uint8))]


def _q4_1(blocks: Blocks, scales: Scales, rounding: ScaleRounding) -> Packed:
    offsets, steps = offset_of(*_ends(blocks))
    codes = ((blocks - offsets) * steps).astype(np.uint8)
    return [_f16(scales * steps, rounding), _f16(scales * offsets, rounding), _halves(codes)]


def _q5_0(blocks: Blocks, scales: Scales, rounding: ScaleRounding) -> Packed:
    codes = (blocks + 16).astype(np.uint8)
    fifth_bits = np.packbits(codes >> np.uint8(4), axis=2, bitorder="little")
    return [_f16(scales, rounding), fifth_bits, _halves(codes)]


def _q8_0(blocks: Blocks, scales: Scales, rounding: ScaleRounding) -> Packed:
    return [_f16(scales, rounding), blocks.astype(np.int8).view(np.uint8)]


def _q4_k(blocks: Blocks, scales: Scales, rounding: ScaleRounding) -> Packed:
    """Every s is one and e is d, so that m is the least number of 32, below zero."""
    inner = blocks.reshape(len(blocks), -1, BLOCK_ITEMS)
    least = np.minimum(_ends(inner)[0], 0)
    codes = (inner - least).astype(np.uint8).reshape(*blocks.shape[:2], 4, 2, BLOCK_ITEMS)
    packed = codes[:, :, :, 0] | codes[:, :, :, 1] << np.uint8(4)
    first, last = np.split((-least).astype(np.uint8).reshape(*blocks.shape[:2], 8), 2, axis=2)
    sixes = [  # eight s and eight m of six bits each, as `get_scale_min_k4` takes them apart
        np.ones_like(first),
        first | (last >> np.uint8(4)) << np.uint8(6),
        np.uint8(1) | (last & np.uint8(15)) << np.uint8(4),
    ]
    half = _f16(scales, rounding)
    return [half, half, *sixes, packed.reshape(*blocks.shape[:2], -1)]


def _q6_k(blocks: Blocks, scales: Scales, rounding: ScaleRounding) -> Packed:
    """Every s is one."""
    num_rows, num_blocks, _ = blocks.shape
    codes = (blocks + 32).astype(np.uint8).reshape(num_rows, num_blocks, 2, 4, 32)
    low, high = codes & np.uint8(15), codes >> np.uint8(4)
    lower = low[:, :, :, :2] | low[:, :, :, 2:] << np.uint8(4)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    upper = np.bitwise_or.reduce(high << shifts, axis=3)
    ones = np.ones((num_rows, num_blocks, 16), np.uint8)
    flat = (num_rows, num_blocks, -1)
    return [lower.reshape(flat), upper.reshape(flat), ones, _f16(scales, rounding)]


def _tq2_0(blocks: Blocks, scales: Scales, rounding: ScaleRounding) -> Packed:
    """Of each 128, the four quarters side by side in the bits of 32 bytes, the first lowest."""
    codes = (blocks + 1).astype(np.uint8).reshape(*blocks.shape[:2], 2, 4, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    octets = np.bitwise_or.reduce(codes << shifts, axis=3)
    return [octets.reshape(*blocks.shape[:2], -1), _f16(scales, rounding)]


def _ends(blocks: Blocks) -> tuple[Blocks, Blocks]:
    """The least and the largest number of each block. Raises `DamagedCheckpoint` where they
    are farther apart than four bits can be.
    """
    least, most = blocks.min(axis=2, keepdims=True), blocks.max(axis=2, keepdims=True)
    if (most - least).max() > _MOST_STEPS:
        raise DamagedCheckpoint(
            f"Quantized numbers that share a scale are {(most - least).max()} apart, but the "
            "checkpoint says that they have four bits. Download it again."
        )
    return least, most


_PACKERS: Mapping[Type, Callable[[Blocks, Scales, ScaleRounding], Packed]] = {
    Type.TQ2_0: _tq2_0,
    Type.Q4_0: _q4_0,
    Type.Q4_1: _q4_1,
    Type.Q5_0: _q5_0,
    Type.Q8_0: _q8_0,
    Type.Q4_K: _q4_k,
    Type.Q6_K: _q6_k,
}
