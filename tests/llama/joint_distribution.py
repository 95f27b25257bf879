"""Run as a child: the joint distribution of three consecutive tokens, sampled many
times, against the exact one.

Usage: python -m tests.llama.joint_distribution MODEL.gguf {plain|drafted} NUM_SAMPLES
With temperature, top-k, top-p, min-p and all penalties on. The exact distribution is
computed here, in float64, from the logits of every context of up to two more tokens.
`drafted`: two tokens are drafted at each place, at random, and verified together.
Prints JSON: the p-value of Pearson's chi-square test, that against a distribution at
another temperature, the number of outcomes compared (those expected fewer than five
times are one), and the share of drafted tokens that were accepted.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from appliance.engine.batch import Batch
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.llama.sampling.choosing import Draw, Sampling
from appliance.llama.sampling.logits import Row
from appliance.llama.sampling.sampler import SamplerChain
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from tests.llama.sampling_equality import PROMPT, chosen

SAMPLING = SamplingParams(
    temperature=1.2,
    top_k=6,
    top_p=0.9,
    min_p=0.02,
    repeat_penalty=1.2,
    repeat_last_n=8,
    presence_penalty=0.4,
    frequency_penalty=0.3,
)
OTHER_TEMPERATURE = 1.0
NUM_TOKENS = 3


class Rows:
    """The logits behind the prompt and any further tokens, computed once each."""

    def __init__(self, path: Path) -> None:
        self.model = Model(path, use_extra_bufts=False)
        self.prompt = self.model.tokenize(PROMPT, parse_special=False)
        self._context = Context(
            self.model,
            ContextConfig(
                sizes=ContextSizes(
                    kv_cells=256,
                    slots=1,
                    max_rows=64,
                    kv_type="f16",
                    threads=1,
                    batch_threads=1,
                    ubatch_rows=64,
                )
            ),
        )
        self._known: dict[tuple[int, ...], Row] = {}
        self._likely: dict[tuple[tuple[int, ...], float], dict[int, float]] = {}

    def behind(self, answer: tuple[int, ...]) -> Row:
        if answer not in self._known:
            batch = Batch()
            tokens = [*self.prompt, *answer]
            for position, token in enumerate(tokens):
                batch.add(token, position, 0, wants_logits=position == len(tokens) - 1)
            self._context.clear(0)
            self._context.decode(batch)
            self._known[answer] = self._context.logits(len(tokens) - 1)
        return self._known[answer]

    def likely(self, answer: tuple[int, ...], sampling: SamplingParams) -> dict[int, float]:
        """The chance of each token that may follow."""
        key = (answer, sampling.temperature)
        if key not in self._likely:
            self._likely[key] = distribution(self.behind(answer), self.prompt, answer, sampling)
        return self._likely[key]


def distribution(
    row: Row, prompt: Sequence[int], answer: Sequence[int], sampling: SamplingParams
) -> dict[int, float]:
    """What the parameters leave of a row,
    as llama.cpp documents its samplers, in its order.
    """
    logits = row.astype(np.float64)
    for token in set([*prompt, *answer][-sampling.repeat_last_n :]):
        logits[token] *= (
            sampling.repeat_penalty if logits[token] <= 0 else 1 / sampling.repeat_penalty
        )
    for token, count in Counter(answer).items():
        logits[token] -= count * sampling.frequency_penalty + sampling.presence_penalty
    best = np.argsort(-logits)[: sampling.top_k]
    chances = np.exp(logits[best] - logits[best[0]])
    chances /= chances.sum()
    num_left = int(np.searchsorted(np.cumsum(chances), sampling.top_p)) + 1
    best, chances = best[:num_left], chances[:num_left]
    best = best[chances >= sampling.min_p * chances[0]]
    heated = np.exp((logits[best] - logits[best[0]]) / sampling.temperature)
    heated /= heated.sum()
    return {int(token): float(chance) for token, chance in zip(best, heated, strict=True)}


def joint(rows: Rows, sampling: SamplingParams) -> dict[tuple[int, ...], float]:
    """The chance of each three tokens."""
    known: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(NUM_TOKENS):
        known = {
            (*answer, token): chance * conditional
            for answer, chance in known.items()
            for token, conditional in rows.likely(answer, sampling).items()
        }
    return known


def p_value(
    counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]
) -> tuple[float, int]:
    """Of Pearson's test, and the number of outcomes; rare ones count as one outcome."""
    num_samples = counts.total()
    common = [outcome for outcome, chance in expected.items() if chance * num_samples >= 5]
    seen = [counts[outcome] for outcome in common]
    wanted = [expected[outcome] * num_samples for outcome in common]
    seen.append(num_samples - sum(seen))
    wanted.append(max(num_samples - sum(wanted), 1e-9))
    chi_square = sum((s - w) ** 2 / w for s, w in zip(seen, wanted, strict=True))
    return _chi_square_tail(chi_square, len(seen) - 1), len(seen)


def _chi_square_tail(value: float, freedom: int) -> float:
    """Wilson and Hilferty 1931: the cube root of chi-square over its degrees of freedom
    is nearly normal.
    """
    z = ((value / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / (2 / (9 * freedom)) ** 0.5
    return 0.5 * math.erfc(z / 2**0.5)


def main(argv: list[str]) -> None:
    rows = Rows(Path(argv[0]))
    is_drafted, num_samples = argv[1] == "drafted", int(argv[2])
    sampling = Sampling(1)
    rng = random.Random(1)
    counts: Counter[tuple[int, ...]] = Counter()
    num_drafted = num_accepted = 0
    for seed in range(num_samples):
        chain = SamplerChain(rows.model, replace(SAMPLING, seed=seed), rows.prompt, 64)
        answer: tuple[int, ...] = ()
        while len(answer) < NUM_TOKENS:
            drafted: list[int] = []
            for _ in range(min(2, NUM_TOKENS - len(answer) - 1) if is_drafted else 0):
                likely = rows.likely((*answer, *drafted), SAMPLING)
                drafted += rng.choices(list(likely), list(likely.values()))
            behind = [rows.behind((*answer, *drafted[:count])) for count in range(len(drafted) + 1)]
            [choices] = sampling.choose([Draw(chain, behind, drafted)])
            answer = (*answer, *(choice.token for choice in chosen(choices)))
            num_drafted += len(drafted)
            num_accepted += len(chosen(choices)) - 1
        counts[answer] += 1
        chain.close()
    sampling.close()
    exact = joint(rows, SAMPLING)
    assert set(counts) <= set(exact), "only what the filters leave"
    value, num_cells = p_value(counts, exact)
    other, _ = p_value(counts, joint(rows, replace(SAMPLING, temperature=OTHER_TEMPERATURE)))
    report = {
        "p_value": value,
        "p_value_of_others": other,
        "num_cells": num_cells,
        "share_accepted": num_accepted / num_drafted if num_drafted else 0.0,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
