"""Tokens per second, from a count that only grows. Knows no clock and no worker."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0


class TokenRate:
    """The mean over the last seconds."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, int]] = deque()

    def observe(self, now_s: float, num_tokens: int) -> None:
        """`num_tokens` since the beginning, which may be any time."""
        self._counts.append((now_s, num_tokens))
        while len(self._counts) > 2 and self._counts[1][0] <= now_s - _WINDOW_S:
            self._counts.popleft()

    @property
    def per_s(self) -> float | None:
        """None until it was observed twice."""
        if len(self._counts) < 2:
            return None
        (first_s, first), (last_s, last) = self._counts[0], self._counts[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None
