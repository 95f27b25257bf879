"""With what the prompts of the last seconds began, as a replica tells it to all doors: each knows
by itself only what it has routed.

Knows no replica.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from appliance.fleet.routing import PRINT_BYTES, Fingerprints

_KEPT_S = 5.0  # several times as long as doors wait for the next state
_MOST_BYTES = 4096  # of a state: 512 blocks, which are 32,768 tokens


class RecentPrompts:
    """Of one replica."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._prompts: deque[tuple[float, bytes]] = deque()  # when each came
        self._num_bytes = 0

    def add(self, prints: Fingerprints) -> None:
        packed = b"".join(prints)[:_MOST_BYTES]
        if packed:
            self._prompts.append((self._clock(), packed))
            self._num_bytes += len(packed)
        self._forget()

    def packed(self) -> tuple[bytes, ...]:
        """The fingerprints of each, one after the other."""
        self._forget()
        return tuple(packed for _, packed in self._prompts)

    def _forget(self) -> None:
        oldest_s = self._clock() - _KEPT_S
        while self._prompts and (self._prompts[0][0] < oldest_s or self._num_bytes > _MOST_BYTES):
            _, packed = self._prompts.popleft()
            self._num_bytes -= len(packed)


def unpacked(prompts: Iterable[bytes]) -> list[list[bytes]]:
    return [
        [packed[at : at + PRINT_BYTES] for at in range(0, len(packed), PRINT_BYTES)]
        for packed in prompts
    ]
