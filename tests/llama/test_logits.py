"""What NumPy reads from a row of logits, against a full sort and float64; pure NumPy,
so in the test's own process.
"""

from __future__ import annotations

import numpy as np
import pytest

from appliance.errors import DecodeFailed
from appliance.llama.sampling.logits import (
    Row,
    check_row,
    logprobs,
    most_likely_token,
    most_likely_tokens,
)

SIZES = (1, 5, 1024, 2048, 4096, 5000, 32_003, 128_256)


def row_of(size: int, seed: int) -> Row:
    return np.random.default_rng(seed).normal(0.0, 3.0, size).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 40, 256, 300])
def test_the_most_likely_tokens_are_among_those_found(size: int, count: int) -> None:
    row = row_of(size, count)
    found = most_likely_tokens(row, count)
    best = np.argsort(-row, kind="stable")[:count]
    assert set(best) <= set(found)
    assert np.all(np.diff(found) > 0)
    assert size < 2048 or count > 256 or len(found) < 2 * count + 10


def test_ties_and_masked_tokens_lose_nobody() -> None:
    row = np.zeros(4096, np.float32)
    assert len(most_likely_tokens(row, 40)) == 4096
    row = np.full(4096, -np.inf, np.float32)
    row[[7, 4095]] = 1.0, 2.0
    assert list(most_likely_tokens(row, 40)) == [7, 4095], "masked ones can never be chosen"
    reported = logprobs(row, 7, 3)
    assert [each.token for each in reported.top] == [4095, 7]
    assert reported.chosen == pytest.approx(-np.log1p(np.e), abs=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_logprobs_are_the_log_softmax_of_float64(size: int) -> None:
    row = row_of(size, 1)
    exact = row.astype(np.float64)
    exact -= exact.max()
    exact -= np.log(np.exp(exact).sum())
    token = size // 2
    reported = logprobs(row, token, 20)
    assert reported.chosen == pytest.approx(exact[token], abs=2e-7)
    assert [each.token for each in reported.top] == list(np.argsort(-row, kind="stable")[:20])
    assert [each.logprob for each in reported.top] == pytest.approx(
        list(exact[[t for t, _ in reported.top]]), abs=2e-7
    )
    assert logprobs(row, token, 0).top == ()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 2500, 4999])
def test_a_row_that_is_no_distribution_is_refused_wherever_it_is_wrong(
    wrong: float, at: int
) -> None:
    row = row_of(5000, 2)
    row[at] = wrong
    for read in (
        check_row,
        most_likely_token,
        lambda row: most_likely_tokens(row, 40),
        lambda row: most_likely_tokens(row, 300),
    ):
        with pytest.raises(DecodeFailed, match=f"its largest logit is {wrong}"):
            read(row)
    with pytest.raises(DecodeFailed, match="-inf"):
        check_row(np.full(5000, -np.inf, np.float32))


def test_the_first_of_equals_is_the_most_likely() -> None:
    row = np.zeros(5000, np.float32)
    row[[31, 4000]] = 1.0
    assert most_likely_token(row) == 31
