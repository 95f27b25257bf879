"""Whole numbers in groups become blocks of the same numbers, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from numpy.typing import NDArray

from convert.dequantize.repack import (
    IntegerKind,
    Integers,
    ScaleRounding,
    integer_types,
    offset_of,
    pack_integers,
    pack_nvfp4,
)
from convert.errors import DamagedCheckpoint

ROWS, ITEMS = 16, 512


def bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def grouped(group: int, zeros: range, *, steps: int = 15, digits: int = 11) -> Integers:
    """Numbers from a zero point's distance below nothing, in groups that use all of them."""
    rng = np.random.default_rng(7)
    codes = rng.integers(0, steps + 1, (ROWS, ITEMS // group, group))
    codes[:, :, 0], codes[:, :, 1] = 0, steps
    zero = rng.integers(zeros.start, zeros.stop, (ROWS, ITEMS // group, 1))
    scales = rng.uniform(0.001, 0.01, (ROWS, ITEMS // group)).astype(np.float32)
    scales = bf16(scales) if digits == 8 else scales.astype(np.float16).astype(np.float32)
    return Integers((codes - zero).reshape(ROWS, ITEMS).astype(np.int16), scales, group)


@pytest.mark.parametrize(
    ("ggml_type", "rows"),
    [
        (Type.Q4_1, grouped(32, range(17), digits=8)),
        (Type.Q4_1, grouped(128, range(17), digits=8)),
        (Type.Q4_K, grouped(256, range(17))),
        (Type.Q4_K, grouped(512, range(8, 9))),
        (Type.Q6_K, grouped(256, range(17))),
        (Type.TQ2_0, grouped(512, range(1, 2), steps=2)),
    ],
)
def test_blocks_hold_the_same_numbers(ggml_type: Type, rows: Integers) -> None:
    rounding = ScaleRounding()
    blocks = pack_integers(rows, ggml_type, "w", rounding)
    again = np.ascontiguousarray(dequantize(blocks, ggml_type))
    assert (again + np.float32(0)).tobytes() == (rows.floats() + np.float32(0)).tobytes()
    assert rounding.num_scales > 0
    assert rounding.num_rounded == 0


def test_an_offset_never_has_more_than_three_digits() -> None:
    """Beside its powers of two, of whatever numbers four bits can hold."""
    pairs = np.array(
        [(a, b) for a in range(-16, 16) for b in range(a, 16) if b - a <= 15], np.int16
    )
    offsets, steps = offset_of(pairs[:, 0], pairs[:, 1])
    assert np.isin(steps, (-1, 1)).all()
    codes = (pairs - offsets[:, None]) * steps[:, None]
    assert codes.min() == 0
    assert codes.max() == 15
    odd = [abs(int(n)) // (int(n) & -int(n)) if n else 0 for n in offsets]
    assert set(odd) == {0, 1, 3, 5}


def test_scales_with_more_digits_are_rounded_and_counted() -> None:
    """Why Q4_1 is not offered for F16: five times eleven digits are more than eleven."""
    rows, rounding = grouped(32, range(5, 6)), ScaleRounding()
    pack_integers(rows, Type.Q4_1, "w", rounding)
    assert 0 < rounding.num_rounded < rounding.num_scales // 2
    kind = IntegerKind(low=-15, high=15, bits=4, scale_digits=11, group_items=32)
    assert integer_types(kind, ITEMS) == (Type.Q5_0, Type.Q8_0)


@pytest.mark.parametrize(
    ("group", "digits", "names"),
    [
        (32, 8, "Q4_1 Q5_0 Q8_0"),
        (128, 11, "Q5_0 Q8_0"),
        (256, 11, "Q4_K Q5_0 Q6_K Q8_0"),
        (512, 8, "Q4_K Q4_1 Q5_0 Q6_K Q8_0"),
        (48, 8, ""),
        (384, 8, ""),
        (None, 8, ""),
    ],
)
def test_which_types_hold_asymmetric_four_bits(group: int | None, digits: int, names: str) -> None:
    kind = IntegerKind(low=-15, high=15, bits=4, scale_digits=digits, group_items=group)
    assert " ".join(name.name for name in integer_types(kind, ITEMS)) == names


def test_numbers_that_four_bits_cannot_hold_are_damage() -> None:
    numbers = np.zeros((1, 32), np.int16)
    numbers[0, :2] = -8, 8
    rows = Integers(numbers, np.ones((1, 1), np.float32), 32)
    with pytest.raises(DamagedCheckpoint, match="are 16 apart"):
        pack_integers(rows, Type.Q4_1, "w", ScaleRounding())


def test_nvfp4_scales_have_no_sign() -> None:
    codes, scales = np.zeros((1, 64), np.uint8), np.array([[0x38, 0x38, 0xB8, 0x38]], np.uint8)
    with pytest.raises(DamagedCheckpoint, match="scales below zero"):
        pack_nvfp4(codes, scales, "w")
