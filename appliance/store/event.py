"""What is reported to a waiting user while models are downloaded and converted.

Knows no work and no terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_STEP_BYTES = 1 << 20


@dataclass(frozen=True)
class StoreEvent:
    """What is going on, and how far it has come, where that is known."""

    text: str
    done_bytes: int = 0
    total_bytes: int = 0
    is_warning: bool = False  # something is not as it was wanted


OnEvent = Callable[[StoreEvent], None]


class ProgressEvents:
    """Progress of one piece of work as events, one for every mebibyte."""

    def __init__(self, text: str, total_bytes: int, on_event: OnEvent) -> None:
        self._text = text
        self._total_bytes = total_bytes
        self._on_event = on_event
        self._reported_bytes = 0

    def __call__(self, done_bytes: int) -> None:
        if done_bytes - self._reported_bytes < _STEP_BYTES and done_bytes < self._total_bytes:
            return
        self._reported_bytes = done_bytes
        self._on_event(StoreEvent(self._text, done_bytes, self._total_bytes))
