"""Small floats as float32: tables of what their bits mean.

Knows no tensors and no files.

FP8: "FP8 Formats for Deep Learning" (arXiv 2209.05433). E2M1 and E8M0: OCP Microscaling
Formats (MX) Specification 1.0.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.safetensors_file import StoredType, to_float32

# The sixteen numbers of E2M1, by their bits; times two they are whole numbers.
E2M1 = np.array(
    [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32
)


@cache
def _e4m3() -> NDArray[np.float32]:
    """Four bits of exponent (bias 7), three of mantissa; no infinity, and one NaN a sign."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    size = np.where(
        exponent == 0, np.ldexp(mantissa / 8, -6), np.ldexp(1 + mantissa / 8, exponent - 7)
    )
    size[codes & 127 == 127] = np.nan
    return np.where(codes >> 7 == 1, -size, size).astype(np.float32)


@cache
def _e5m2() -> NDArray[np.float32]:
    """The upper half of an F16."""
    return (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)


@cache
def _e8m0() -> NDArray[np.float32]:
    """Powers of two (bias 127), and NaN."""
    powers = np.ldexp(np.ones(256), np.arange(256) - 127)
    powers[255] = np.nan
    return powers.astype(np.float32)


def digits_of(stored_type: StoredType) -> int:
    """How many binary digits its floats have, with the first, which is not stored."""
    return {StoredType.F16: 11, StoredType.BF16: 8, StoredType.F8_E8M0: 1}.get(stored_type, 24)


def from_e8m0(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Powers of two: 2 to the power of each code less 127; NaN for 255."""
    powers: NDArray[np.float32] = _e8m0()[codes]
    return powers


def decoded(raw: NDArray[Any], stored_type: StoredType) -> NDArray[np.float32]:
    """The exact float32 values of numbers as stored, same shape; of 64 bits the nearest.

    Whole numbers too. The type must be `readable`.
    """
    tables = {
        StoredType.F8_E4M3: _e4m3,
        StoredType.F8_E5M2: _e5m2,
        StoredType.F8_E8M0: _e8m0,
    }
    if stored_type not in tables:
        return to_float32(raw, stored_type)
    values: NDArray[np.float32] = tables[stored_type]()[raw]
    return values


def readable(stored_type: StoredType) -> bool:
    """Whether numbers of a type can be `decoded`."""
    other = ("FNUZ", "F6", "F4", "C64")
    return not any(mark in stored_type.value for mark in other)
