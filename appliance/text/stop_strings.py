"""Ends an answer at a stop string, without ever letting a part of one out.

Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Holds text back while it may still turn out
    to be the beginning of a stop string.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._longest = max(map(len, stop), default=0)
        self._held = ""
        self.matched = ""  # the stop string that ended the answer

    @property
    def found(self) -> bool:
        return bool(self.matched)

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        """The text that is safe to emit; sets `matched` when a stop string is complete,
        and emits what came before.
        """
        if not self._stop:
            return text
        self._held += text
        hits = [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if hits:
            first, self.matched = min(hits)
            safe, self._held = self._held[:first], ""
            return safe
        keep = self._num_held_back()
        cut = len(self._held) - keep
        safe, self._held = self._held[:cut], self._held[cut:]
        return safe

    def flush(self) -> str:
        """What was held back and turned out
        to be no stop string, at the end of the answer.
        """
        held, self._held = self._held, ""
        return held

    def _num_held_back(self) -> int:
        """Length of the longest end of the held text
        with which a stop string begins.
        """
        for size in range(min(self._longest - 1, len(self._held)), 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stop):
                return size
        return 0
