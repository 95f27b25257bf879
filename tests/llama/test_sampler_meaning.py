"""Each sampler against its paper's definition, on a row
of chances that is written out.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import Embedded

CHANCES = {100: 0.4, 200: 0.25, 300: 0.15, 400: 0.1, 500: 0.06, 600: 0.03, 700: 0.01}
DRAWS = 1500
ENTROPY = -sum(p * math.log(p) for p in CHANCES.values())
A, B, C, D = 301, 302, 303, 304
END, THE, THERE, THEY, WALK = 2, 537, 2085, 2523, 1324  # of the embedded model's vocabulary


@dataclass(frozen=True)
class Case:
    """`left`: the chances that the sampler leaves, before they are made to sum to 1."""

    sampling: dict[str, Any]
    left: dict[int, float]
    chances: dict[int, float] = field(default_factory=lambda: CHANCES)
    prompt: tuple[int, ...] = (A,)


def typical(mass: float) -> dict[int, float]:
    """Meister et al. 2022: those whose surprise is nearest to the entropy, until their
    mass is reached.
    """
    left: dict[int, float] = {}
    for token in sorted(CHANCES, key=lambda token: abs(-math.log(CHANCES[token]) - ENTROPY)):
        left[token] = CHANCES[token]
        if sum(left.values()) > mass:
            break
    return left


def within_sigmas(number: float) -> dict[int, float]:
    """Tang et al. 2024, "Top-n-sigma": logits at most so many standard deviations below
    the largest.
    """
    logits = {token: math.log(chance) for token, chance in CHANCES.items()}
    mean = sum(logits.values()) / len(logits)
    sigma = math.sqrt(sum((logit - mean) ** 2 for logit in logits.values()) / len(logits))
    return {
        token: CHANCES[token]
        for token in CHANCES
        if logits[token] >= max(logits.values()) - number * sigma
    }


def by_dynamic_temperature(spread: float, exponent: float) -> dict[int, float]:
    """Temperature 1 - spread to 1 + spread, by the distribution's entropy relative to
    an even one's.
    """
    temperature = 1 - spread + 2 * spread * (ENTROPY / math.log(len(CHANCES))) ** exponent
    return {token: chance ** (1 / temperature) for token, chance in CHANCES.items()}


CASES = {
    "typical": Case({"typical_p": 0.5}, typical(0.5)),
    "top n sigma": Case({"top_n_sigma": 1.0}, within_sigmas(1.0)),
    # Exclude top choices (Weidmann 2024): of those above the threshold only the least
    # likely is left.
    "xtc": Case(
        {"xtc_probability": 1.0, "xtc_threshold": 0.12},
        {t: p for t, p in CHANCES.items() if p <= 0.15},
    ),
    "xtc without a draw": Case(
        {"xtc_probability": 1.0, "xtc_threshold": 0.12, "temperature": 0.0}, {300: 1.0}, CHANCES
    ),
    # Basu et al. 2021: surprise in bits up to twice the target at first.
    "mirostat 2": Case(
        {"mirostat": 2, "mirostat_tau": 1.5},
        {t: p for t, p in CHANCES.items() if -math.log2(p) <= 3},
    ),
    "dynamic temperature": Case(
        {"dynatemp_range": 0.9, "dynatemp_exponent": 2.0, "top_k": len(CHANCES)},
        by_dynamic_temperature(0.9, 2.0),
    ),
    # DRY (Weidmann 2024): "a b" was followed by c, and a match of 2 tokens costs
    # multiplier * base ** (2 - allowed).
    "dry": Case(
        {"dry_multiplier": 0.7, "dry_base": 3.0, "dry_allowed_length": 1},
        {C: 0.8 * math.exp(-0.7 * 3.0), D: 0.2},
        {C: 0.8, D: 0.2},
        (A, B, C, D, A, B),
    ),
    "dry of so many tokens": Case(
        {"dry_multiplier": 0.7, "dry_base": 3.0, "dry_allowed_length": 1, "dry_penalty_last_n": 3},
        {C: 0.8, D: 0.2},
        {C: 0.8, D: 0.2},
        (A, B, C, D, A, B),
    ),
    # Only those named, in their order: halved logits first, then at least 0.45 of the
    # best.
    "in another order": Case(
        {"samplers": ["temperature", "min_p"], "temperature": 2.0, "min_p": 0.45, "top_k": 1},
        {
            token: math.sqrt(chance)
            for token, chance in CHANCES.items()
            if math.sqrt(chance / 0.4) >= 0.45
        },
    ),
    "greedy is a temperature": Case(
        {"samplers": ["min_p"], "min_p": 0.3, "temperature": 0.0},
        {token: chance for token, chance in CHANCES.items() if chance >= 0.3 * 0.4},
    ),
    # llama.h: tokens that begin alike count as one ("the", "there", "they"), then those
    # below 0.2 go.
    "infill": Case(
        {"samplers": ["top_k", "infill"], "top_k": 4},
        {WALK: 0.5, THE: 0.14},
        {WALK: 0.5, THE: 0.14, THERE: 0.11, A: 0.1, B: 0.08, THEY: 0.07},
    ),
    "infill ends": Case(
        {"samplers": ["top_k", "infill"], "top_k": 4, "temperature": 0.0},
        {END: 1.0},
        {END: 0.2, THE: 0.4, WALK: 0.4},
    ),
    "no end within the least tokens": Case(
        {"min_tokens": 1}, {A: 0.3, B: 0.2}, {END: 0.5, A: 0.3, B: 0.2}
    ),
    "a bias does not end it either": Case(
        {"min_tokens": 1, "logit_bias": {END: 50.0}, "temperature": 0.0},
        {A: 1.0},
        {END: 0.5, A: 0.3, B: 0.2},
    ),
    "an end behind the least tokens": Case(
        {"min_tokens": 0, "temperature": 0.0}, {END: 1.0}, {END: 0.5, A: 0.3, B: 0.2}
    ),
    "dry without a draw": Case(
        {"dry_multiplier": 0.7, "dry_base": 3.0, "dry_allowed_length": 1, "temperature": 0.0},
        {D: 1.0},
        {C: 0.8, D: 0.2},
        (A, B, C, D, A, B),
    ),
}


@pytest.fixture(scope="module")
def counts(embedded: Embedded) -> dict[str, dict[int, int]]:
    asked = [
        {"sampling": case.sampling, "chances": case.chances, "prompt": case.prompt, "draws": DRAWS}
        for case in CASES.values()
    ]
    command = [sys.executable, "-m", "tests.llama.sampler_meaning", str(embedded.files["Q4_K_M"])]
    child = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return {
        name: {int(token): count for token, count in chosen.items()}
        for name, chosen in zip(CASES, json.loads(child.stdout), strict=True)
    }


@pytest.mark.parametrize("name", CASES)
def test_it_leaves_what_its_definition_says(counts: dict[str, dict[int, int]], name: str) -> None:
    left = CASES[name].left
    total = sum(left.values())
    assert set(counts[name]) <= set(left)
    for token, chance in left.items():
        share = chance / total
        # Five standard deviations: the seeds are fixed, so this holds always or never.
        assert abs(counts[name].get(token, 0) - DRAWS * share) <= 5 * math.sqrt(
            DRAWS * share * (1 - share)
        ), token


def test_the_cases_tell_something() -> None:
    for name, case in CASES.items():
        if name != "dry of so many tokens":
            assert case.left != case.chances, name
