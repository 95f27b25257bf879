"""How a draft model chooses the token that its target is most likely to choose.

Knows no context and no slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.llama.sampling.logits import Row, most_likely_token, most_likely_tokens
from appliance.llama.sampling.noise import Noise
from appliance.protocol.sampling import SamplingParams

# however many the target has: the rest together hold little of a draft's probability
_MOST_CANDIDATES = 64
_GREEDY_BELOW = 1e-6  # a temperature: as the target's sampler has it


@dataclass(frozen=True)
class DraftChoice:
    """A drafted token, and the probability of the most likely token at its place,
    before any sampling parameter.
    """

    token: int
    top_probability: float


def choose_like_target(row: Row, sampling: SamplingParams, noise: Noise, index: int) -> DraftChoice:
    """The draft's answer to what the target draws from its own row as the answer's
    `index`-th new token.

    Candidates by top-k, top-p and min-p, then temperature, in llama.cpp's order; then
    the target's own noise. Penalties and biases are left out: they cost acceptance,
    never correctness. Raises `DecodeFailed` where the row is no distribution.
    """
    best = most_likely_token(row)
    top_probability = 1.0 / float(np.exp(row - row[best]).sum(dtype=np.float64))
    if is_greedy(sampling):
        return DraftChoice(best, top_probability)
    count = min(sampling.top_k or _MOST_CANDIDATES, _MOST_CANDIDATES)
    tokens = most_likely_tokens(row, count)
    tokens = tokens[np.argsort(-row[tokens], kind="stable")[:count]]
    logits = row[tokens].astype(np.float64)
    num_kept = _num_kept(logits, sampling)
    scaled = logits[:num_kept] / sampling.temperature
    at = noise.winner(index, tokens[:num_kept].tolist(), scaled.tolist())
    return DraftChoice(int(tokens[at]), top_probability)


def is_greedy(sampling: SamplingParams) -> bool:
    """Whether the most likely token is taken, and nothing drawn."""
    return sampling.temperature < _GREEDY_BELOW


def _num_kept(logits: npt.NDArray[np.float64], sampling: SamplingParams) -> int:
    """How many of the best candidates, whose logits descend, pass top-p and then min-p;
    at least one.
    """
    weights = np.exp(logits - logits[0])
    num_kept = len(logits)
    if sampling.top_p < 1.0:
        below = np.cumsum(weights / weights.sum()) < sampling.top_p
        num_kept = min(num_kept, int(below.sum()) + 1)
    if sampling.min_p > 0.0:
        num_kept = min(num_kept, int((weights >= sampling.min_p).sum()))
    return max(num_kept, 1)
