"""Perplexity and divergence from logits: numbers worked out by hand, and what must not
matter to them.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from convert.quality import statistics as quality_statistics
from convert.quality.statistics import Quality, QualityStatistics

Logits = NDArray[np.float32]
LN2, LN3 = math.log(2), math.log(3)


def logits_of(*rows: list[float]) -> Logits:
    return np.array(rows, dtype=np.float32)


def random_logits(num_rows: int, num_vocab: int = 40, seed: int = 5) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, (num_rows, num_vocab)).astype(np.float32)


def eighths(logits: Logits) -> Logits:
    rounded: Logits = (np.round(logits * 8) / 8).astype(np.float32)
    return rounded


def quality_of(logits: Logits, tokens: list[int], reference: Logits | None = None) -> Quality:
    statistics = QualityStatistics()
    statistics.add(logits, tokens, reference)
    return statistics.quality()


def test_two_tokens_by_hand() -> None:
    """The model gives 1/4 and 3/4; the first token was the likelier one, the second the
    other: -ln 3/4 and -ln 1/4.
    """
    quality = quality_of(logits_of([0, LN3], [0, LN3]), [1, 0])

    assert (quality.num_tokens, quality.divergence) == (2, None)
    assert quality.perplexity.value == pytest.approx(4 / math.sqrt(3))  # 1 / sqrt(3/4 * 1/4)
    # The two lie ln 3 apart: standard deviation ln 3 / sqrt 2, over sqrt 2 for the
    # mean; times the value.
    assert quality.perplexity.standard_error == pytest.approx(4 / math.sqrt(3) * LN3 / 2)


def test_a_divergence_by_hand() -> None:
    """The reference gives halves: D = ln(1/2 : 1/4) / 2 + ln(1/2 : 3/4) / 2 = ln(4/3) /
    2; then both do: 0.
    """
    quality = quality_of(logits_of([0, LN3], [0, 0]), [1, 0], logits_of([7, 7], [2, 2]))

    divergence = quality.divergence
    assert divergence is not None
    first = math.log(4 / 3) / 2
    assert divergence.kl_mean.value == pytest.approx(first / 2)
    assert divergence.kl_mean.standard_error == pytest.approx(first / 2)
    assert divergence.kl_p99.value == pytest.approx(0.99 * first)
    assert divergence.top1.value == 0.5  # of equals the first is the likeliest
    assert divergence.top1.standard_error == pytest.approx(0.5)  # sqrt(1/4 / (2 - 1))
    assert divergence.reference_perplexity.value == pytest.approx(2)
    assert divergence.reference_perplexity.standard_error == pytest.approx(0)
    # ln(1/2 : 3/4) on the first token and 0 on the second.
    assert divergence.perplexity_ratio.value == pytest.approx(math.sqrt(2 / 3))
    assert divergence.perplexity_ratio.standard_error == pytest.approx(
        math.sqrt(2 / 3) * math.log(3 / 2) / 2
    )


def test_a_model_beside_itself_diverges_nowhere() -> None:
    logits = random_logits(300)
    divergence = quality_of(logits, [3] * 300, logits).divergence

    assert divergence is not None
    for estimate, value in (
        (divergence.kl_mean, 0.0),
        (divergence.kl_p99, 0.0),
        (divergence.top1, 1.0),
        (divergence.perplexity_ratio, 1.0),
    ):
        assert (estimate.value, estimate.standard_error) == (value, 0.0)


def test_as_plain_formulas_have_it() -> None:
    """Sums of squares and covariances as perplexity.cpp writes them."""
    logits, reference = random_logits(500), random_logits(500, seed=6)
    tokens = np.random.default_rng(7).integers(0, 40, 500)
    quality = quality_of(logits, tokens.tolist(), reference)

    log_p = [rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)) for rows in (logits, reference)]
    nll, reference_nll = (-rows[np.arange(500), tokens] for rows in log_p)
    kl = (np.exp(log_p[1]) * (log_p[1] - log_p[0])).sum(axis=1)
    divergence = quality.divergence
    assert divergence is not None
    assert quality.perplexity.value == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    variance = (np.square(nll).mean() - nll.mean() ** 2) / 499
    assert quality.perplexity.standard_error == pytest.approx(
        np.exp(nll.mean()) * variance**0.5, rel=1e-4
    )
    assert divergence.kl_mean.value == pytest.approx(kl.mean(), rel=1e-5)
    assert divergence.kl_mean.standard_error == pytest.approx(kl.std() / 499**0.5, rel=1e-4)
    assert divergence.kl_p99.value == pytest.approx(np.percentile(kl, 99), rel=1e-5)
    errors = np.cov(nll, reference_nll) / 500
    ratio_error = (
        errors[0, 0] + errors[1, 1] - 2 * errors[0, 1]
    ) ** 0.5 * divergence.perplexity_ratio.value
    assert divergence.perplexity_ratio.standard_error == pytest.approx(ratio_error, rel=1e-4)


def test_the_error_of_the_percentile_is_that_of_its_rank() -> None:
    """Evenly spread divergences, 0 to 9999 steps: ranks of 10000 * 0.99 * 0.01 = 99
    have a deviation of sqrt 99.
    """
    estimate = quality_statistics._percentile(
        np.random.default_rng(1).permutation(10_000).astype(np.float64), 0.99
    )

    assert estimate.value == pytest.approx(0.99 * 9999)
    assert estimate.standard_error == pytest.approx(math.sqrt(99))


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 59), max_size=6).map(lambda cuts: sorted({0, *cuts, 60})),
    shift=st.floats(-1000, 1000),
    chunk_items=st.integers(1, 500),
)
def test_blocks_chunks_and_shifts_change_nothing(
    cuts: list[int], shift: float, chunk_items: int
) -> None:
    """Logits in eighths, so that a shift by eighths is exact in float32."""
    logits = eighths(random_logits(60))
    reference = eighths(random_logits(60, seed=8))
    tokens = np.random.default_rng(9).integers(0, 40, 60).tolist()
    whole = quality_of(logits, tokens, reference)
    statistics = QualityStatistics()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality_statistics, "_CHUNK_ITEMS", chunk_items)
        for start, stop in itertools.pairwise(cuts):
            moved = logits[start:stop] + np.float32(round(shift * 8) / 8)
            statistics.add(moved, tokens[start:stop], reference[start:stop])
    parts = statistics.quality()

    assert parts.divergence is not None
    assert whole.divergence is not None
    assert parts.num_tokens == whole.num_tokens
    assert parts.divergence.top1 == whole.divergence.top1
    pairs = [(parts.perplexity, whole.perplexity)]
    pairs += [
        (getattr(parts.divergence, name), getattr(whole.divergence, name))
        for name in ("kl_mean", "kl_p99")
    ]
    for ours, theirs in pairs:
        assert ours.value == pytest.approx(theirs.value, rel=1e-12)
        assert ours.standard_error == pytest.approx(theirs.standard_error, rel=1e-9)


def test_sure_predictions_stay_numbers() -> None:
    lowest = float(np.finfo(np.float32).min)  # what some models give a token that they never say
    logits = logits_of([100, -100, lowest], [100, 0, lowest])
    divergence = quality_of(
        logits, [0, 0], logits_of([100, -100, lowest], [0, 100, lowest])
    ).divergence

    assert divergence is not None
    assert divergence.kl_mean.value == pytest.approx(50)
    with pytest.raises(OverflowError):
        quality_of(logits_of([1e4, 0], [1e4, 0]), [1, 1])
