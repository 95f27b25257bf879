"""What is read off a scenario's answers, by name, and how two servers' figures compare.

Knows no server.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.cli.bench.stream import Answer


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that the report compares.

    The gain is how many times better ours is: ours / peer where more is better, else
    peer / ours. `least_gain` is the target for the gain, `most` the value that ours may
    have at most, whatever the peer's.
    """

    name: str
    unit: str
    more_is_better: bool = False
    least_gain: float | None = None
    most: float | None = None

    @property
    def words(self) -> str:
        """The name for readers, and the unit apart from it."""
        bare = self.name.removesuffix(f"_{self.unit.replace('/', '_per_')}")
        return f"{bare.replace('_', ' ')}, {self.unit}"

    def gain(self, ours: float, peer: float) -> float:
        return ours / peer if self.more_is_better else peer / ours


TTFT_P50 = Figure(name="ttft_p50_s", unit="s")
TTFT_P95 = Figure(name="ttft_p95_s", unit="s")
GAP_P50 = Figure(name="gap_p50_ms", unit="ms")
GAP_P99 = Figure(name="gap_p99_ms", unit="ms")
GAP_MAX = Figure(name="gap_max_ms", unit="ms")
TOKENS_PER_S = Figure(name="throughput_tokens_per_s", unit="tokens/s", more_is_better=True)
ALL_DONE = Figure(name="all_done_s", unit="s")
COMMON = (TTFT_P50, TTFT_P95, GAP_P50, GAP_P99, GAP_MAX, TOKENS_PER_S, ALL_DONE)


def common_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """The figures that every scenario has; gaps are pooled over its answers.

    Tokens per second are those of all answers, by the servers' own count, from the
    first request to the last token.
    """
    ttft_s = [answer.ttft_s for answer in answers]
    gaps_ms = [1000 * gap_s for answer in answers for gap_s in answer.gaps_s]
    all_done_s = max(answer.ended_s for answer in answers) - min(
        answer.sent_s for answer in answers
    )
    return {
        TTFT_P50.name: statistics.median(ttft_s),
        TTFT_P95.name: quantile(ttft_s, 0.95),
        GAP_P50.name: statistics.median(gaps_ms),
        GAP_P99.name: quantile(gaps_ms, 0.99),
        GAP_MAX.name: max(gaps_ms),
        TOKENS_PER_S.name: sum(answer.num_tokens for answer in answers) / all_done_s,
        ALL_DONE.name: all_done_s,
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of all (nearest rank): one that was
    measured, not one in between.
    """
    return sorted(values)[math.ceil(share * len(values)) - 1]


@dataclass(frozen=True)
class Spread:
    """Of one figure over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Comparison:
    """One figure of one scenario; the gain is that of the medians, its spread that of
    the rounds' own gains.
    """

    figure: Figure
    ours: Spread
    peer: Spread
    gain: Spread

    @classmethod
    def of(cls, figure: Figure, ours: Sequence[float], peer: Sequence[float]) -> Comparison:
        """`ours` and `peer` hold one value for each round, in the same order."""
        mine, its = Spread.of(ours), Spread.of(peer)
        gains = [figure.gain(*pair) for pair in zip(ours, peer, strict=True)]
        return cls(
            figure, mine, its, Spread(figure.gain(mine.median, its.median), min(gains), max(gains))
        )

    @property
    def is_reached(self) -> bool | None:
        """None where nothing is to be reached."""
        if self.figure.most is not None:
            return self.ours.median <= self.figure.most
        if self.figure.least_gain is not None:
            return self.gain.median >= self.figure.least_gain
        return None
