"""How well a model predicts a text,
and how far it is from a reference that predicts the same.

Knows no files.

What is measured, and its standard errors, are those of llama.cpp's
tools/perplexity/perplexity.cpp, so that the numbers can be compared. The errors take
tokens for independent of each other; within one text they are not quite, so that
another text of the same kind may lie somewhat further off than they say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CHUNK_ITEMS = 1 << 20  # logits worked on together: bounds the float64 copies to a few times 8 MiB


@dataclass(frozen=True)
class Estimate:
    """A number that was measured, and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """How far a model is from its reference.

    KL divergences, D(reference || model), are in nats per token.
    """

    kl_mean: Estimate
    kl_p99: Estimate  # 99th percentile over the tokens
    top1: Estimate  # share of tokens, 0 to 1, for which both rank the same one first
    reference_perplexity: Estimate
    # the model's to the reference's; its error is smaller than either's, for both
    # stumble over the same tokens
    perplexity_ratio: Estimate


@dataclass(frozen=True)
class Quality:
    """What was measured over `num_tokens` predicted tokens."""

    num_tokens: int
    perplexity: Estimate
    divergence: Divergence | None


class QualityStatistics:
    """Fed with logits block by block;
    keeps one number per token, for the percentile.
    """

    def __init__(self) -> None:
        self._nll = _Moments()
        self._reference_nll = _Moments()
        self._log_ratio = _Moments()
        self._kl = _Moments()
        self._kl_values: list[Floats] = []
        self._num_agreeing = 0

    def add(
        self,
        logits: NDArray[np.float32],
        next_tokens: Sequence[int],
        reference_logits: NDArray[np.float32] | None = None,
    ) -> None:
        """Takes in finite logits [rows, vocabulary]
        and the token that truly follows each row.

        The reference's logits are given with every block or with none.
        """
        num_rows, num_vocab = logits.shape
        assert len(next_tokens) == num_rows
        assert reference_logits is None or reference_logits.shape == logits.shape
        tokens = np.asarray(next_tokens, dtype=np.intp)
        step = max(1, _CHUNK_ITEMS // num_vocab)
        for start in range(0, num_rows, step):
            chunk = slice(start, start + step)
            model = _LogProbs(logits[chunk])
            nll = model.nll(tokens[chunk])
            self._nll.add(nll)
            if reference_logits is not None:
                self._compare(model, nll, _LogProbs(reference_logits[chunk]), tokens[chunk])

    def quality(self) -> Quality:
        """Of everything added, at least two tokens.

        Raises `OverflowError` where a perplexity has no finite value.
        """
        assert self._nll.count >= 2
        assert self._kl.count in (0, self._nll.count)
        divergence = self._divergence() if self._kl.count else None
        return Quality(self._nll.count, _exponential(self._nll), divergence)

    def _compare(
        self, model: _LogProbs, nll: Floats, reference: _LogProbs, tokens: NDArray[np.intp]
    ) -> None:
        reference_nll = reference.nll(tokens)
        self._reference_nll.add(reference_nll)
        self._log_ratio.add(nll - reference_nll)
        kl = reference.divergence_to(model)
        self._kl.add(kl)
        self._kl_values.append(kl)
        self._num_agreeing += int(np.count_nonzero(model.likeliest == reference.likeliest))

    def _divergence(self) -> Divergence:
        count = self._kl.count
        agreement = self._num_agreeing / count
        return Divergence(
            kl_mean=Estimate(self._kl.mean, self._kl.standard_error),
            kl_p99=_percentile(np.concatenate(self._kl_values), 0.99),
            top1=Estimate(agreement, math.sqrt(agreement * (1 - agreement) / (count - 1))),
            reference_perplexity=_exponential(self._reference_nll),
            perplexity_ratio=_exponential(self._log_ratio),
        )


class _LogProbs:
    """Log-probabilities in float64, log p = shifted - log_sum,
    of logits [rows, vocabulary].
    """

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.likeliest = logits.argmax(axis=1)
        self._shifted = logits.astype(np.float64)
        self._shifted -= self._shifted.max(axis=1, keepdims=True)
        self._weights = np.exp(self._shifted)
        self._sum = self._weights.sum(axis=1)
        self._log_sum = np.log(self._sum)

    def nll(self, tokens: NDArray[np.intp]) -> Floats:
        """Each row's negative log-likelihood of its token."""
        chosen: Floats = self._shifted[np.arange(len(tokens)), tokens]
        nll: Floats = self._log_sum - chosen
        return nll

    def divergence_to(self, other: _LogProbs) -> Floats:
        """Each row's D(self || other)."""
        weighted = np.einsum("rv,rv->r", self._weights, self._shifted - other._shifted) / self._sum
        divergence: Floats = weighted - self._log_sum + other._log_sum
        divergence[divergence < 0] = 0.0  # by rounding
        return divergence


class _Moments:
    """Mean and variance of values that come in blocks, without the cancellation of
    plain sums of squares.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances" (1979).
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: Floats) -> None:
        count, mean = len(values), float(values.mean())
        total = self.count + count
        delta = mean - self.mean
        self._squares += (
            float(np.square(values - mean).sum()) + delta * delta * self.count * count / total
        )
        self.mean += delta * count / total
        self.count = total

    @property
    def standard_error(self) -> float:
        """Of the mean of independent values."""
        return math.sqrt(self._squares / (self.count * (self.count - 1)))


def _exponential(moments: _Moments) -> Estimate:
    """exp of a mean; its error by the delta method."""
    value = math.exp(moments.mean)
    return Estimate(value, value * moments.standard_error)


def _percentile(values: Floats, fraction: float) -> Estimate:
    """Interpolated between neighbours in order; of `values` in any order.

    How many of n values lie below it has the standard deviation sqrt(n f (1 - f)); the
    error is half the way between the values that many ranks below and above, whatever
    the distribution. With few values the largest bounds it.
    """
    ordered = np.sort(values)
    rank = fraction * (len(ordered) - 1)
    deviation = math.sqrt(len(ordered) * fraction * (1 - fraction))
    below, middle, above = np.interp(
        [rank - deviation, rank, rank + deviation], np.arange(len(ordered)), ordered
    )
    return Estimate(float(middle), float(above - below) / 2)
