"""One answer's way from token bytes to text: detokenize, then look for stop strings. Knows no tokens and no engine."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.text.detokenizer import Detokenizer
from appliance.text.stop_strings import StopStrings


class Answer:
    """Feeds pieces through; `stopped` says that a stop string ended the answer."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._detokenizer = Detokenizer()
        self._stop_strings = StopStrings(stop)

    @property
    def stopped(self) -> bool:
        return self._stop_strings.found

    def feed(self, piece: bytes) -> str:
        """New text that is certain to belong to the answer."""
        return self._stop_strings.feed(self._detokenizer.feed(piece))

    def flush(self) -> str:
        """The rest, once no more pieces come; empty if a stop string ended the answer."""
        if self.stopped:
            return ""
        last = self._stop_strings.feed(self._detokenizer.flush())
        return last if self.stopped else last + self._stop_strings.flush()
