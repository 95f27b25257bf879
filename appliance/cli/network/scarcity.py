"""What is said where the system has no room for another connection.

Knows no server. The event loop then leaves new connections in the socket's queue and tries
again a second later; but before Python 3.13 it complains once for each that could wait
there, thousands of times, each with a traceback.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SAID_EVERY_S = 60.0


class ScarcityHandler:
    """An event loop's exception handler: scarcity is said in a line and once a minute, and
    all else as it always is. `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_s: float | None = None

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        is_scarce = isinstance(error, OSError) and error.errno in _SCARCE
        if not (is_scarce and "socket" in context):
            loop.default_exception_handler(context)
            return
        now_s = self._clock()
        if self._said_s is None or now_s - self._said_s >= _SAID_EVERY_S:
            self._said_s = now_s
            _log.warning(
                "new connections wait: %s. Raise the limit on open files (ulimit -n, or "
                "LimitNOFILE= of the service), or have clients share connections.",
                error.strerror if isinstance(error, OSError) else error,
            )
