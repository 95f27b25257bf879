"""The time that a request has: what is awaited for it ends when that is over.

Knows no request and no model.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

from appliance.errors import TimeIsUp
from appliance.gateway.loading import Clock, Timer

ResultT = TypeVar("ResultT")

# Seconds that the client has asked for; None: it has not. Found like `RequestContext`: so
# no format needs to hand it on.
ASKED_TIMEOUT_S: ContextVar[float | None] = ContextVar("asked_timeout_s", default=None)


def ask_timeout(timeout_s: float | None) -> None:
    """What this task asks for from now on is to be complete within that time; of several
    times that were asked for the least holds.
    """
    asked_s = ASKED_TIMEOUT_S.get()
    if timeout_s is not None and (asked_s is None or timeout_s < asked_s):
        ASKED_TIMEOUT_S.set(timeout_s)


class Deadline:
    """Runs from when it is made to `close`, which is to be called.

    One timer for all that is awaited: a token costs a comparison.
    """

    def __init__(self, timeout_s: float | None, clock: Clock) -> None:
        """None: there is always time."""
        self.doing = "it was waiting for its turn"  # in words, for the error
        self._timeout_s = timeout_s
        self._is_over = False
        self._waiter: asyncio.Task[object] | None = None
        self._timer: Timer | None = None
        if timeout_s is not None:
            self._timer = clock.call_later(timeout_s, self._expire)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def wait(self, begin: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Awaits what `begin` gives. Raises `TimeIsUp`; then that has been cancelled."""
        if self._timer is None:
            return await begin()
        if self._has_expired():
            raise self._error()
        self._waiter = asyncio.current_task()
        try:
            result = await begin()
            if not self._has_expired():
                return result
        except asyncio.CancelledError:
            if not self._has_expired() or _has_other_cancellation(self._waiter):
                raise
        finally:
            self._waiter = None
        raise self._error()

    def _has_expired(self) -> bool:
        return self._is_over

    def _expire(self) -> None:
        self._is_over = True
        if self._waiter is not None:
            self._waiter.cancel()

    def _error(self) -> TimeIsUp:
        return TimeIsUp(
            f"The request was not complete within {self._timeout_s:g} s (--request-timeout-s, "
            f"'timeout', or the header x-request-timeout): {self.doing}."
        )


def _has_other_cancellation(task: asyncio.Task[object] | None) -> bool:
    """Takes back our own; whether somebody else's is left, as far as Python tells (3.11)."""
    if sys.version_info >= (3, 11):
        return task is not None and task.uncancel() > 0
    return False
