"""What NumPy reads from one row of logits: its largest values and log-probabilities.

Knows no sampler and no llama.cpp.

A row is float32 [vocabulary]; `-inf` is a masked token, anything else that is no finite
number is an error.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from appliance.engine.runner import Logprobs, TokenLogprob
from appliance.errors import DecodeFailed

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]

_MASKED = np.float32(-np.inf)
_NUM_GROUPS = 1024
MOST_FILTERED = _NUM_GROUPS // 4  # with more wanted than that, groups no longer narrow much


def most_likely_token(row: Row) -> int:
    """The first of the largest.

    Raises `DecodeFailed` where the row is no distribution.
    """
    token = int(row.argmax())  # the first NaN, where there is one
    check_number(float(row[token]))
    return token


def check_row(row: Row) -> None:
    """Raises `DecodeFailed` where the row holds a NaN
    or +inf, or nothing above -inf.
    """
    check_number(float(row.max()))


def check_number(largest: float) -> None:
    if not math.isfinite(largest):
        raise DecodeFailed(
            "The model did not compute a usable distribution (its largest logit is "
            f"{largest}). The model file may be damaged, or this CPU path computes it incorrectly."
        )


def most_likely_tokens(row: Row, count: int) -> Ids:
    """Ids, ascending, of a few tokens among which are the `count` most likely, with all
    that tie with the last of them.

    The vocabulary falls into groups; as many groups as are wanted have a maximum of at
    least the `count`-th largest maximum, so at least `count` tokens reach that value
    (or all that are not masked are taken). Two passes over the row instead of a partial
    sort of it: at 128,256 tokens 65 microseconds for 40, where `numpy.argpartition`
    takes 210. Every token where that cannot help: few tokens, or many wanted. Raises
    `DecodeFailed` where the row is no distribution.
    """
    num_rows = len(row) // _NUM_GROUPS
    if num_rows < 2 or count > MOST_FILTERED:
        check_row(row)
        return np.arange(len(row), dtype=np.int32)
    num_grouped = num_rows * _NUM_GROUPS
    maxima = row[:num_grouped].reshape(num_rows, _NUM_GROUPS).max(axis=0)
    rest = row[num_grouped:]
    np.maximum(maxima[: len(rest)], rest, out=maxima[: len(rest)])
    check_row(maxima)
    at = _NUM_GROUPS - count
    threshold = np.partition(maxima, at)[at]
    if threshold == _MASKED:  # fewer are left than are wanted: none that is masked can be chosen
        return np.flatnonzero(row > _MASKED).astype(np.int32)
    return np.flatnonzero(row >= threshold).astype(np.int32)


def logprobs(row: Row, token: int, num_top: int) -> Logprobs:
    """Of `token` and of the `num_top` most likely that are not masked, best first (of
    equals the smaller id).

    log softmax(x)_i = x_i - m - log(sum_j exp(x_j - m)) with m = max(x), the sum in
    float64. Its exponentials are float32: each is right to 2 ** -23 of its own size, so
    the logarithm of their sum is right to about 1e-7.
    """
    largest = float(row.max())
    total = np.exp(row - np.float32(largest)).sum(dtype=np.float64)
    normalizer = largest + math.log(float(total))
    top: list[TokenLogprob] = []
    if num_top > 0:
        ids = most_likely_tokens(row, num_top)
        order = np.argsort(-row[ids], kind="stable")[:num_top]
        top = [TokenLogprob(int(i), float(row[i]) - normalizer) for i in ids[order]]
    return Logprobs(float(row[token]) - normalizer, tuple(top))


def log_softmax(row: Row) -> npt.NDArray[np.float64]:
    """All log-probabilities of a row."""
    shifted = row.astype(np.float64) - row.max()
    log_probs: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return log_probs
