"""Which keys are told apart by name in metrics: a bounded number, however many there are.

Counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_LABELS = 32
OTHER = "other"
_IDLE_S = 3600.0  # who asked nothing for so long gives its place to another one


class CallerLabels:
    """The ids of the first `MAX_LABELS` callers of the last hour; all others are `OTHER`."""

    def __init__(self, clock: Callable[[], float], max_labels: int = MAX_LABELS) -> None:
        self._clock = clock
        self._max_labels = max_labels
        self._last_used_s: dict[str, float] = {}  # the latest last
        self._on_leave: list[Callable[[str], None]] = []

    def when_one_leaves(self, forget: Callable[[str], None]) -> None:
        """Calls it with each label that gave its place away."""
        self._on_leave.append(forget)

    def label_of(self, caller_id: str) -> str:
        """Of a caller that asks now."""
        now_s, used = self._clock(), self._last_used_s
        if used.pop(caller_id, None) is None and len(used) >= self._max_labels:
            oldest = next(iter(used))
            if now_s - used[oldest] < _IDLE_S:
                return OTHER
            del used[oldest]
            for forget in self._on_leave:
                forget(oldest)
        used[caller_id] = now_s
        return caller_id
