"""Wakes whoever waits for something to change,
so that nobody has to look again and again.

Knows nothing of what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """On one event loop: `notify` after every change,
    and every `until` looks once more.
    """

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Set by the first change from now on:
        take it before looking, and none is missed.
        """
        return self._next

    async def until(self, is_so: Callable[[], bool]) -> None:
        while True:
            change = self._next
            if is_so():
                return
            await change.wait()
