"""Many durations in little memory: how many there were in each of a few hundred steps,
each 2 % wider than the one below it, so that a percentile is wrong by 1 % at most.

Knows no request and no clock: it is told what time it is.

The steps are DDSketch's: https://arxiv.org/abs/1908.10693.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

RELATIVE_ERROR = 0.01
SLOT_S = 30.0  # a window's beginning is known to within so much
_LEAST_S = 1e-6  # shorter ones count as this
_RATIO = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_STEPS_IN_E = 1 / math.log(_RATIO)

Counts = dict[int, int]  # by step


def step_of(duration_s: float) -> int:
    return math.ceil(math.log(max(duration_s, _LEAST_S)) * _STEPS_IN_E)


def duration_of(step: int) -> float:
    """In seconds; all durations of this step are within 1 % of it."""
    return 2 * _RATIO**step / (_RATIO + 1)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The smallest duration that so many are not above, such as 0.95 of them; None of none."""
    rank = math.ceil(share * sum(counts.values()))
    for step in sorted(counts):
        rank -= counts[step]
        if rank <= 0:
            return duration_of(step)
    return None


@dataclass(frozen=True)
class _Slot:
    """A part of the past, packed: it does not change any more."""

    end_s: float
    steps: array[int]
    counts: array[int]


class WindowDigest:
    """The durations of the last `window_s` seconds."""

    def __init__(self, window_s: float) -> None:
        self._past: deque[_Slot] = deque(maxlen=math.ceil(window_s / SLOT_S))
        self._present: Counts = {}
        self._slot_end_s = -math.inf

    def add(self, step: int, num: int, now_s: float) -> None:
        """`num` durations of this step, now."""
        if now_s >= self._slot_end_s:
            self._begin_slot(now_s)
        present = self._present
        present[step] = present.get(step, 0) + num

    def _begin_slot(self, now_s: float) -> None:
        if self._present:
            steps, counts = array("h", self._present), array("I", self._present.values())
            self._past.append(_Slot(self._slot_end_s, steps, counts))
            self._present = {}
        self._slot_end_s = (now_s // SLOT_S + 1) * SLOT_S

    def counts_since(self, since_s: float) -> Counts:
        """Of all slots that end later."""
        found = dict(self._present) if self._slot_end_s > since_s else {}
        for slot in reversed(self._past):
            if slot.end_s <= since_s:
                break
            for step, num in zip(slot.steps, slot.counts, strict=True):
                found[step] = found.get(step, 0) + num
        return found
