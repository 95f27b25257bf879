"""How far the loading of a model has come, as lines of the log.

Knows no file and no llama.cpp.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from appliance.durations import TimeLeft

_log = logging.getLogger(__name__)
_PERIOD_S = 2.0  # what is quicker is not told at all


class LoadProgress:
    """To be called with the share that is done, from 0 to 1, as often as it is known."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._left = TimeLeft(clock)
        self._told_s = clock()

    def __call__(self, share: float) -> None:
        left = self._left.words(share)
        if left and self._clock() - self._told_s >= _PERIOD_S:
            self._told_s = self._clock()
            _log.info("%s: %d %%, %s", self._what, int(100 * share), left)
