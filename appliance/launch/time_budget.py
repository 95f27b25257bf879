"""How long measuring may take at a start, by the clock. Knows nothing that is measured."""

from __future__ import annotations

import time
from collections.abc import Callable

# For testing the CPU paths and for tuning, together: the rest of a start takes about as
# long on two busy cores, and the first answer is to be there within 20 s.
START_S = 8.0


class TimeBudget:
    """So many seconds from now on, for everything that it is handed to; `clock` gives
    seconds.
    """

    def __init__(
        self, seconds: float = START_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self._deadline_s = clock() + seconds

    def left_s(self) -> float:
        """Never below 0."""
        return max(0.0, self._deadline_s - self.clock())
