"""How long a worker waits after each step, where it is to compute in a part of its time.

Knows no model, no message and no reason.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Resting:
    """`share` is the part of its time in which a worker with requests may compute; its
    steps are computed whole, and it rests after each. `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.share = 1.0
        self.busy_s = 0.0  # computing and resting, all together
        self._clock = clock
        self._until_s: float | None = None

    def note_step(self, step_s: float) -> None:
        """A step was computed just now."""
        self.busy_s += step_s
        if self.share < 1:
            self._until_s = self._clock() + step_s * (1 / self.share - 1)

    @property
    def is_over(self) -> bool:
        """Whether the next step may be computed."""
        return self._until_s is None

    def wait(self, inbox: queue.SimpleQueue[T]) -> T | None:
        """What comes in until the rest is over, at once; None when it is over and nothing
        came.
        """
        if self._until_s is None:
            return inbox.get_nowait()
        started_s = self._clock()
        try:
            return inbox.get(timeout=max(self._until_s - started_s, 0.0))
        except queue.Empty:
            self._until_s = None
            return None
        finally:
            self.busy_s += self._clock() - started_s
