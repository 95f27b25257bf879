"""Which tier a score asks for, and what is good enough of its answer: as it was set.

Pure: knows no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AutoRules:
    """How the model `auto` chooses."""

    # names of the models it chooses from, the smallest first; empty: all, by their size
    tiers: tuple[str, ...] = ()
    is_on: bool = True
    # From each one on, the next larger tier answers; ascending, out of 100. None: the usual
    # ones for so many tiers.
    thresholds: tuple[float, ...] | None = None
    # Of an answer's tokens, natural, the mean; below it a larger model is asked too. None: it
    # is not looked at.
    min_logprob: float | None = math.log(0.2)

    threshold_of_two = 15.0
    _last_threshold = 40.0

    def tier_of(self, score: int, num_tiers: int) -> int:
        """The index of the tier that a request of this score asks for, 0 for the smallest."""
        passed = sum(score >= threshold for threshold in self._thresholds(num_tiers))
        return min(passed, num_tiers - 1)

    def _thresholds(self, num_tiers: int) -> tuple[float, ...]:
        """One less than there are tiers: the first one is that of two, the others are spread
        up to the last.
        """
        if self.thresholds is not None:
            return self.thresholds
        first, num_more = self.threshold_of_two, num_tiers - 2
        width = (self._last_threshold - first) / max(1, num_more)
        return tuple(first + width * index for index in range(num_more + 1))
