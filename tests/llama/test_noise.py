"""The randomness of sampling: its distribution, its independence, and that both ways to
ask for it agree.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from appliance.llama.sampling.noise import Noise

NUM_TOKENS = 200_000
TOKENS = np.arange(NUM_TOKENS, dtype=np.int32)


def noise_of(kind: str) -> npt.NDArray[np.float64]:
    """Many numbers that differ in one of the three alone."""
    if kind == "token":
        return Noise(7).gumbels(3, TOKENS)
    if kind == "index":
        return np.array([Noise(7).gumbel(index, 5) for index in range(NUM_TOKENS // 4)])
    return np.array([Noise(seed).gumbel(3, 5) for seed in range(NUM_TOKENS // 4)])


@pytest.mark.parametrize("kind", ["token", "index", "seed"])
def test_numbers_have_the_standard_gumbel_distribution(kind: str) -> None:
    found = np.sort(noise_of(kind))
    size = len(found)
    deviation = math.pi / math.sqrt(6 * size)
    assert abs(float(found.mean()) - float(np.euler_gamma)) < 4 * deviation
    assert float(found.var()) == pytest.approx(math.pi**2 / 6, rel=8 / math.sqrt(size))
    expected = np.exp(-np.exp(-found))
    distance = max(
        np.abs(expected - np.arange(size) / size).max(),
        np.abs(expected - np.arange(1, size + 1) / size).max(),
    )
    assert distance * math.sqrt(size) < 1.95, (
        "Kolmogorov and Smirnov: one in a thousand is farther away"
    )


@pytest.mark.parametrize(
    ("seed", "index", "shift"), [(8, 3, 0), (7, 4, 0), (7, 3, 1), (7 + 2**32, 3, 0)]
)
def test_neighbours_are_uncorrelated(seed: int, index: int, shift: int) -> None:
    one, other = Noise(7).gumbels(3, TOKENS), Noise(seed).gumbels(index, TOKENS + shift)
    assert abs(float(np.corrcoef(one, other)[0, 1])) < 4 / math.sqrt(NUM_TOKENS)


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_one_token_and_many_have_the_same_numbers(seed: int) -> None:
    noise = Noise(seed)
    many = noise.gumbels(11, TOKENS[:1000])
    assert [noise.gumbel(11, token) for token in range(1000)] == pytest.approx(
        list(many), rel=1e-13
    )
    logits = np.linspace(0.0, 3.0, 1000)
    assert noise.winner(11, list(range(1000)), list(logits)) == int((many + logits).argmax())


def test_the_winner_has_the_distribution_of_the_logits() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    logits = list(np.log(probabilities))
    noise = Noise(1)
    counts = np.bincount(
        [noise.winner(index, [9, 4, 77, 3], logits) for index in range(20_000)], minlength=4
    )
    chi_square = float(((counts - 20_000 * probabilities) ** 2 / (20_000 * probabilities)).sum())
    assert chi_square < 16.3, "three degrees of freedom: one in a thousand is above"


def test_two_who_draw_alike_agree_as_often_as_is_known() -> None:
    """At least (1 - TV) / (1 + TV), TV the total variation distance (Daliri, Musco,
    Suresh 2024).
    """
    chance = np.random.default_rng(5)
    for spread in (0.1, 0.5, 1.0, 3.0):
        target = chance.normal(0.0, 2.0, 50)
        draft = target + chance.normal(0.0, spread, 50)
        p, q = (np.exp(logits) / np.exp(logits).sum() for logits in (target, draft))
        distance = 0.5 * float(np.abs(p - q).sum())
        noise, tokens = Noise(2), TOKENS[:50]
        drawn = [noise.gumbels(index, tokens) for index in range(10_000)]
        agreed = float(np.mean([(target + g).argmax() == (draft + g).argmax() for g in drawn]))
        assert agreed > (1 - distance) / (1 + distance) - 4 * 0.5 / math.sqrt(10_000), (
            spread,
            distance,
        )
