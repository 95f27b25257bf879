"""What share of a machine's power keeps it at a temperature just under its limit.

Knows no file, no clock and no model: margins go in, shares come out.

A proportional-integral controller in velocity form (Astrom and Hagglund, Advanced PID
Control, 2006, section 3.6): it adds up changes, so that a bound holds nothing back that
would have to be undone afterwards.
"""

from __future__ import annotations

LEAST_SHARE = 0.25  # whatever the heat: somebody waits for an answer
TARGET_CELSIUS = 3.0  # below the limit: sensors tell whole degrees, and late
# A share for each degree that it became warmer, and for each degree and second that it
# is off its target. On dies that warm in seconds and heat sinks that take minutes
# (tests/gateway/thermal/simulated_machine.py) neither swings.
_PER_DEGREE = 0.06
_PER_DEGREE_SECOND = 0.006
_MOST_OFF = 10.0  # degrees: a cold machine need not be hurried
_MOST_STEP_S = 5.0  # after a longer pause, nothing is known of what was between


class ShareController:
    """Begins at full power."""

    def __init__(self) -> None:
        self.share = 1.0
        self._off: float | None = None  # degrees of room above the target
        self._now_s = 0.0

    def step(self, now_s: float, margin_celsius: float) -> float:
        """The share from now on, `LEAST_SHARE` to 1; `margin_celsius` is how far the
        limit is, below 0 beyond it.
        """
        off = margin_celsius - TARGET_CELSIUS
        if self._off is not None:
            elapsed_s = min(max(now_s - self._now_s, 0.0), _MOST_STEP_S)
            bounded = min(max(off, -_MOST_OFF), _MOST_OFF)
            change = _PER_DEGREE * (off - self._off) + _PER_DEGREE_SECOND * bounded * elapsed_s
            self.share = min(max(self.share + change, LEAST_SHARE), 1.0)
        self._off, self._now_s = off, now_s
        return self.share

    def pause(self) -> None:
        """Nothing is held back for a while; later it goes on with the share of now."""
        self._off = None
