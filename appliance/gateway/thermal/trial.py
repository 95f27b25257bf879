"""Whether keeping below the limit is better than running into it, by what was computed
either way.

Knows no temperature and no clock: only how long workers were busy, and what they did.

A machine that lowers its clock a little at a time loses less than one whose work is cut
up, for a slower clock needs less voltage; one that falls to its slowest clock and back
again loses more. Nobody can tell by its name, so both are tried, in turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SETTLE_S = 60.0  # busy seconds after each change that count for neither
WINDOW_S = 10.0
WINDOWS = 6  # of each round
ROUNDS = 4  # free, governed, free, governed
_NO_LOSS = 0.98  # of the mean speed
_GAIN = 1.02  # of the mean speed, or of that of the slowest window


@dataclass(frozen=True)
class Work:
    """What workers did in a while."""

    busy_s: float  # computing, or waiting only to keep cool
    done_ms: float  # what it would have taken at the speed that was known before


@dataclass(kw_only=True)
class _Round:
    settle_s: float = SETTLE_S
    busy_s: float = 0.0  # of the window that is not full yet
    done_ms: float = 0.0
    speeds: list[float] = field(default_factory=list)
    throttled: bool = False

    def add(self, work: Work, *, throttles: bool) -> None:
        if self.settle_s > 0:
            self.settle_s -= work.busy_s
            return
        self.throttled = self.throttled or throttles
        self.busy_s += work.busy_s
        self.done_ms += work.done_ms
        if self.busy_s >= WINDOW_S:
            self.speeds.append(self.done_ms / self.busy_s / 1000)
            self.busy_s = self.done_ms = 0.0


class Trial:
    """Rounds of free running and of governing, until there is a verdict."""

    def __init__(self) -> None:
        self._rounds = [_Round()]

    @property
    def is_governed(self) -> bool:
        """Whether the round in progress is one of governing."""
        return len(self._rounds) % 2 == 0

    def add(self, work: Work, *, throttles: bool) -> bool | None:
        """True: governing is better; False: it is not, or there was nothing to compare,
        for the machine did not throttle again; None: not known yet.
        """
        current = self._rounds[-1]
        current.add(work, throttles=throttles)
        if len(current.speeds) < WINDOWS:
            return None
        if not self.is_governed and not current.throttled:
            return False
        if len(self._rounds) < ROUNDS:
            self._rounds.append(_Round())
            return None
        return self.wins

    @property
    def wins(self) -> bool:
        """Faster, or as fast and steadier."""
        free, governed = self.speeds(governed=False), self.speeds(governed=True)
        if not governed or not any(free):
            return False
        mean_ratio = (sum(governed) / len(governed)) / (sum(free) / len(free))
        is_steadier = min(governed) >= _GAIN * min(free)
        return mean_ratio >= _GAIN or (mean_ratio >= _NO_LOSS and is_steadier)

    def speeds(self, *, governed: bool) -> list[float]:
        """Of each window, 1 being the speed that was known before."""
        return [speed for one in self._rounds[governed::2] for speed in one.speeds]
