"""Who asks, and what they may ask for. Knows no keys and counts nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CallerLimits:
    """What one caller may use; None is no limit. Nothing enforces these yet."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts and answers together
    tokens_per_day: int | None = None
    concurrent_requests: int | None = None
    models: tuple[str, ...] | None = None  # ids; None: all that are served


NO_LIMITS = CallerLimits()


DEFAULT_PRIORITY = 10


@dataclass(frozen=True)
class Caller:
    """Whoever a request is counted for."""

    id: str  # never a secret: it may stand in logs and metrics
    limits: CallerLimits = NO_LIMITS
    priority: int = DEFAULT_PRIORITY  # weight, 1 to 100: its share where requests wait
    yields: bool = False  # its requests, to everybody else's: see `Foreground`


ANONYMOUS = Caller("anonymous")  # everyone, where no key is needed
