"""SIGHUP from the first moment of `serve` to its last: kept until somebody acts on it.

Knows no setting and no event loop. It imports nothing of ours and little else, for it
stands before all other imports: SIGHUP ends a process that has said nothing of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType


def has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Hangups:
    """The handler. A terminal that is closed ends its programs by the same signal, unless
    they were started to outlive it (`nohup`).
    """

    def __init__(self, has_terminal: Callable[[], bool] = has_terminal) -> None:
        self._has_terminal = has_terminal
        outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._ends_with_terminal = has_terminal() and not outlives_terminal
        self._is_kept = False
        self._tell: Callable[[], object] | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self._ends_with_terminal and not self._has_terminal():
            signal.raise_signal(signal.SIGTERM)
        elif self._tell is not None:
            self._tell()
        else:
            self._is_kept = True

    @contextlib.contextmanager
    def told_to(self, tell: Callable[[], object]) -> Iterator[None]:
        """Calls `tell` for each one, and for those that came before. It runs as a signal
        handler does, in between whatever the main thread is at.
        """
        self._tell = tell
        if self._is_kept:
            self._is_kept = False
            tell()
        try:
            yield
        finally:
            self._tell = None


def hold_hangups() -> Hangups:
    """From now on no SIGHUP ends this process. Returns the handler, which is the one
    from before where there is one.
    """
    found = signal.getsignal(signal.SIGHUP)
    if isinstance(found, Hangups):
        return found
    hangups = Hangups()
    signal.signal(signal.SIGHUP, hangups)
    return hangups
