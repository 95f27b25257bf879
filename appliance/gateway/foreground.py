"""Whether somebody is being answered who yields to nobody.

Knows no model and no request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.gateway.accounts.caller import Caller


class Foreground:
    """Requests in flight, waiting or being answered, of callers that do not yield."""

    def __init__(self) -> None:
        self._num_requests = 0
        self._is_present = asyncio.Event()
        self._is_absent = asyncio.Event()
        self._is_absent.set()

    @property
    def is_present(self) -> bool:
        return self._num_requests > 0

    @contextmanager
    def counted(self, caller: Caller) -> Iterator[None]:
        """Around a request of this caller's."""
        if caller.yields:
            yield
            return
        self._num_requests += 1
        self._is_present.set()
        self._is_absent.clear()
        try:
            yield
        finally:
            self._num_requests -= 1
            if not self._num_requests:
                self._is_absent.set()
                self._is_present.clear()

    async def until_present(self) -> None:
        await self._is_present.wait()

    async def until_absent(self) -> None:
        await self._is_absent.wait()
