"""The randomness of sampling as a function: one number for each (seed, index, token).

Knows no logits and no sampler.

Drawing a token is argmax over the candidates of log p + g, with g independent standard
Gumbel numbers (Gumbel 1954, "Statistical Theory of Extreme Values"; Maddison, Tarlow,
Minka 2014, "A* Sampling"): that token has exactly the distribution p. As g(seed, index,
token) is a function and no stream, whoever draws the answer's token `index` from nearly
the same p nearly always gets the same token, without being told (Daliri, Musco, Suresh
2024, "Coupling without Communication and Drafter-Invariant Speculative Decoding").

The bits are those of SplitMix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom
Number Generators"; constants of its finalizer: Stafford's Mix13), of which the n-th
number can be had at once. The seed's generator gives each index a generator of its own,
and that one each token its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15  # 2 ** 64 divided by the golden ratio, odd
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# dropped: with 53 left instead of 52, half a step above the largest would round to 1
_LOW_BITS = 12
_STEP = 2.0**-52

# As arrays' operands: Python's own integers would be converted at every call.
_GAMMA_64, _MIX_1_64, _MIX_2_64 = np.uint64(_GAMMA), np.uint64(_MIX_1), np.uint64(_MIX_2)
_SHIFT_1, _SHIFT_2, _SHIFT_3, _SHIFT_LOW = (
    np.uint64(30),
    np.uint64(27),
    np.uint64(31),
    np.uint64(_LOW_BITS),
)

_Floats = npt.NDArray[np.float64]
_Hashes = npt.NDArray[np.uint64]


class Noise:
    """All numbers of one seed, any integer:
    of those that agree modulo 2 ** 64, the same.
    """

    def __init__(self, seed: int) -> None:
        # mixed first: seeds that follow one another share no numbers
        self._seed_key = _mix(seed & _MASK)

    def gumbel(self, index: int, token: int) -> float:
        """The standard Gumbel number of a token
        as the answer's `index`-th, both from 0 on.
        """
        return _gumbel_of(self._index_key(index), token)

    def gumbels(self, index: int, tokens: npt.NDArray[np.integer]) -> _Floats:
        """The same of several tokens, float64; equal to `gumbel` but for the last digit
        of a logarithm.
        """
        uniform = _uniforms(np.uint64(self._index_key(index)), tokens)
        np.log(uniform, out=uniform)
        np.negative(uniform, out=uniform)
        np.log(uniform, out=uniform)
        return np.negative(uniform, out=uniform)

    def winner(self, index: int, tokens: Seq[int], logits: Seq[float]) -> int:
        """The place of the largest logit + Gumbel number, the first of equals; for a
        few tokens the quickest way.
        """
        key = self._index_key(index)
        best, best_at = -math.inf, 0
        for at, (token, logit) in enumerate(zip(tokens, logits, strict=True)):
            score = logit + _gumbel_of(key, token)
            if score > best:
                best, best_at = score, at
        return best_at

    def _index_key(self, index: int) -> int:
        return _mix(self._seed_key + (index + 1) * _GAMMA & _MASK)


def _gumbel_of(key: int, token: int) -> float:
    # `_mix` written out: this runs for every candidate of every token.
    z = key + (token + 1) * _GAMMA & _MASK
    z = (z ^ z >> 30) * _MIX_1 & _MASK
    z = (z ^ z >> 27) * _MIX_2 & _MASK
    # Half a step above the lower bound: neither 0 nor 1, whose logarithms have none.
    return -math.log(-math.log(((z ^ z >> 31) >> _LOW_BITS) * _STEP + _STEP / 2))


def _mix(z: int) -> int:
    z = (z ^ z >> 30) * _MIX_1 & _MASK
    z = (z ^ z >> 27) * _MIX_2 & _MASK
    return z ^ z >> 31


def _uniforms(key: np.uint64, tokens: npt.NDArray[np.integer]) -> _Floats:
    """In (0, 1), one per token."""
    z: _Hashes = tokens.astype(np.uint64)
    z += np.uint64(1)
    z *= _GAMMA_64
    z += key
    shifted = z >> _SHIFT_1
    z ^= shifted
    z *= _MIX_1_64
    np.right_shift(z, _SHIFT_2, out=shifted)
    z ^= shifted
    z *= _MIX_2_64
    np.right_shift(z, _SHIFT_3, out=shifted)
    z ^= shifted
    z >>= _SHIFT_LOW
    uniform = z.astype(np.float64)
    uniform *= _STEP
    uniform += _STEP / 2
    return uniform
