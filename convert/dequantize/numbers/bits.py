"""Whole numbers of a few bits, out of the words they are packed into.

Knows no scheme.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32


def unpack(words: NDArray[Any], num_bits: int) -> NDArray[np.uint8]:
    """Numbers of `num_bits` (1 to 8) that follow one another along the last axis, from each
    word's lowest bit up: words of 32 bits of shape (..., n) become (..., 32 n / num_bits),
    less the last that is not whole.

    A number may begin in one word and end in the next.
    """
    words = np.ascontiguousarray(words).view(np.uint32)
    count = words.shape[-1] * WORD_BITS // num_bits
    if num_bits in (4, 8):
        octets: NDArray[np.uint8] = words.view(np.uint8)
        return octets if num_bits == 8 else nibbles(octets)
    starts = np.arange(count) * num_bits
    index, shift = starts // WORD_BITS, (starts % WORD_BITS).astype(np.uint32)
    low = words[..., index] >> shift
    # what is beyond the last word is never looked at: no number that is counted goes there
    following = words[..., np.minimum(index + 1, words.shape[-1] - 1)].astype(np.uint64)
    high = (following << (WORD_BITS - shift).astype(np.uint64)).astype(np.uint32)
    numbers = (low | high) & np.uint32((1 << num_bits) - 1)
    small: NDArray[np.uint8] = numbers.astype(np.uint8)
    return small


def nibbles(octets: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The lower four bits of each byte, then its upper four: (..., n) becomes (..., 2 n)."""
    pairs = np.stack([octets & 15, octets >> 4], axis=-1)
    return pairs.reshape(*octets.shape[:-1], -1)
