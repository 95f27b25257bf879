"""Who asks, and what they may ask for. Knows no keys and counts nothing."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PRIORITY = 10
MAX_PRIORITY = 100
MAX_LIMIT = 10**12  # of what a key may use: more is a slip
FILE_KEY_PREFIX = "key-"  # of the ids of those whose keys have no names


@dataclass(frozen=True, kw_only=True)
class CallerLimits:
    """What one caller may use; None is no limit. See `quotas`."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts and answers together
    tokens_per_day: int | None = None  # the day is UTC's
    concurrent_requests: int | None = None
    models: tuple[str, ...] | None = None  # ids or aliases; None: all that are served


NO_LIMITS = CallerLimits()


@dataclass(frozen=True)
class Caller:
    """Whoever a request is counted for."""

    # never a secret: it may stand in logs and metrics. The name of a key that was made
    # here, which stays when it is rotated
    id: str
    limits: CallerLimits = NO_LIMITS
    priority: int = DEFAULT_PRIORITY  # weight, 1 to 100: its share where requests wait
    yields: bool = False  # its requests, to everybody else's: see `Foreground`
    key_id: str = ""  # of a key that was made here, and another one when it is rotated
    is_admin: bool = False  # sees what others use, and the server as a whole


# everyone, where no key is needed: nobody has anything to himself there
ANONYMOUS = Caller("anonymous", is_admin=True)
