"""What measured rates say: a ratio, its spread, and whether that is fast enough.

Knows no server.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_RATIO = 0.97
_BUSY_SHARE = 0.1  # of the machine, taken by others: ratios say little then


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rates in tokens/s, of one round after the other; those of a round were measured
    right after each other.
    """

    load: str
    now: Sequence[float]
    release: Sequence[float]

    def __post_init__(self) -> None:
        assert len(self.now) == len(self.release) > 0

    @property
    def ratio(self) -> float:
        """Of the medians: more than 1 is faster than the release."""
        return statistics.median(self.now) / statistics.median(self.release)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the rounds' own ratios."""
        ratios = [now / release for now, release in zip(self.now, self.release, strict=True)]
        if len(ratios) == 1:
            return ratios[0], ratios[0]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high

    @property
    def is_fast_enough(self) -> bool:
        return self.ratio >= LEAST_RATIO

    def line(self) -> str:
        low, high = self.spread
        now, release = statistics.median(self.now), statistics.median(self.release)
        return (
            f"{self.load:40} {now:9.1f} {release:9.1f} {self.ratio:7.3f}   {low:.3f} to {high:.3f}"
        )


def heading() -> str:
    return f"{'tokens/s':40} {'now':>9} {'release':>9} {'ratio':>7}   half of the rounds"


def verdict(comparisons: Sequence[Comparison], release: str, foreign_share: float) -> str:
    """One sentence for people, and what to make of it where the machine was not idle."""
    slow = [each for each in comparisons if not each.is_fast_enough]
    worst = min(slow or comparisons, key=lambda each: each.ratio)
    if slow:
        said = (
            f"Too slow: {worst.load} runs at {worst.ratio:.3f} of the rate of {release}; at least "
            f"{LEAST_RATIO} is wanted."
        )
    else:
        said = f"Fast enough: at least {worst.ratio:.3f} of the rate of {release} ({worst.load})."
    if foreign_share < _BUSY_SHARE:
        return said
    return (
        f"{said} Other processes took {foreign_share:.0%} of the machine meanwhile: repeat it on "
        "an idle one before you believe it."
    )
