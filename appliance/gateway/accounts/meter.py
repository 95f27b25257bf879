"""How much of a rate is used: a bucket that runs dry evenly within a minute.

Knows no clock: every call is told the time. The limit is told too, for it may change.
"""

from __future__ import annotations

_MINUTE_S = 60.0
_ROUNDING = 1e-6  # of amounts, which are whole numbers


class Meter:
    """May be filled beyond its limit; then nothing fits until that has run out."""

    def __init__(self) -> None:
        self._used = 0.0
        self._at_s = 0.0

    def used(self, limit: int, now_s: float) -> float:
        """`limit`: an amount in a minute, and at once. `now_s` never goes back."""
        self._used = max(0.0, self._used - (now_s - self._at_s) * limit / _MINUTE_S)
        self._at_s = now_s
        return self._used

    def add(self, amount: float, limit: int, now_s: float) -> None:
        """`amount` may be negative: what was not needed after all."""
        self._used = max(0.0, self.used(limit, now_s) + amount)

    def left(self, limit: int, now_s: float) -> int:
        return max(0, int(limit - self.used(limit, now_s) + _ROUNDING))

    def wait_s(self, amount: float, limit: int, now_s: float) -> float:
        """Until `amount` fits, and with more than the limit until all is free."""
        excess = self.used(limit, now_s) + min(amount, limit) - limit
        return excess * _MINUTE_S / limit if excess > _ROUNDING else 0.0

    def empty_in_s(self, limit: int, now_s: float) -> float:
        return self.used(limit, now_s) * _MINUTE_S / limit
