"""Durations as people write them: `30s`, `1h30m`, `250ms`, `300`; and as they are told.

Knows no option, no request field and no work.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

_HOURS_A_DAY = 24
_SAYS_NOTHING_S = 2.0
_MAX_S = 1e9  # some thirty years
_SECONDS_PER_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER = r"\d{1,12}(?:\.\d{1,9})?"
_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")


def duration_s(text: str) -> float:
    """Seconds of a text such as `5m`, `1h30m`, `250ms` or `300` (plain seconds).

    Anything negative means for ever, as in Ollama's `keep_alive`, and is infinite.
    Raises `ValueError` for anything else, and for more than 1e9 seconds.
    """
    size = text.strip().lower().removeprefix("-")
    parts = _PART.findall(size)
    if parts and "".join(number + unit for number, unit in parts) == size:
        seconds = math.fsum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)
    elif re.fullmatch(_NUMBER, size):
        seconds = float(size)
    else:
        raise ValueError(f"not a duration: {text[:40]!r}")
    if seconds > _MAX_S:
        raise ValueError(f"more than {_MAX_S:g} seconds: {text[:40]!r}")
    return math.inf if text.strip().startswith("-") else seconds


def in_words(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 5 min`, `3 days`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 2 * _HOURS_A_DAY:
        return f"{hours // _HOURS_A_DAY} days"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


class TimeLeft:
    """How long work that goes on evenly will still take, judged from its first report on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None  # when, and how much was done

    def words(self, share: float) -> str:
        """With `share` of it done, from 0 to 1: `12 s left`. Empty in the first two seconds,
        which say little and need no words.
        """
        now_s = self._clock()
        begun_s, begun_at = self._first = self._first or (now_s, share)
        elapsed_s, done = now_s - begun_s, share - begun_at
        if elapsed_s < _SAYS_NOTHING_S or done <= 0 or share >= 1:
            return ""
        return f"{in_words(elapsed_s * (1 - share) / done)} left"
