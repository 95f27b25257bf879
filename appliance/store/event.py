"""What is reported to a waiting user while models are downloaded and converted.

Knows no work and no terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StoreEvent:
    """What is going on, and how far it has come, where that is known."""

    text: str
    done_bytes: int = 0
    total_bytes: int = 0
    is_warning: bool = False  # something is not as it was wanted


OnEvent = Callable[[StoreEvent], None]
