"""How fast a model is computed,
and the one figure by which ways to compute it are compared.

Measures nothing.

The figure is a typical mix: a prompt of 512 tokens and 128 tokens of answer, behind as
many cells of context as the measurement had; once for somebody alone, once with every
stream busy, as the time that each of these answers costs. Both count alike, whatever
the model's size: their geometric mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PROMPT_TOKENS = 512
ANSWER_TOKENS = 128


@dataclass(frozen=True)
class Speeds:
    """What one round of measuring found."""

    prompt_token_ms: float
    alone_ms: float  # a step of one stream
    together_ms: float  # a step of `streams`
    streams: int

    @property
    def prefill_tokens_per_s(self) -> float:
        return 1000 / self.prompt_token_ms

    @property
    def alone_tokens_per_s(self) -> float:
        return 1000 / self.alone_ms

    @property
    def together_tokens_per_s(self) -> float:
        """Of all streams together."""
        return 1000 * self.streams / self.together_ms

    @property
    def alone_s(self) -> float:
        """The mix, for somebody alone."""
        return (PROMPT_TOKENS * self.prompt_token_ms + ANSWER_TOKENS * self.alone_ms) / 1000

    @property
    def busy_s(self) -> float:
        """The mix, for each of as many answers at once as there are streams: their time
        together, shared out.
        """
        return (
            PROMPT_TOKENS * self.prompt_token_ms + ANSWER_TOKENS * self.together_ms / self.streams
        ) / 1000

    @property
    def mix_s(self) -> float:
        return math.sqrt(self.alone_s * self.busy_s)


@dataclass(frozen=True)
class Quartiles:
    """The median over rounds, and the bounds of the middle half of them."""

    median: float
    low: float
    high: float


def quartiles_of(rounds: Sequence[Speeds], of: Callable[[Speeds], float]) -> Quartiles:
    """Of one property over all rounds, at least one."""
    return quartiles([of(speeds) for speeds in rounds])


def quartiles(values: Sequence[float]) -> Quartiles:
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, low, high)
