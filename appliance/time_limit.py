"""Awaiting something for so long at most. Knows nothing of what is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(limit_s: float, work: Awaitable[T]) -> T:
    """What `work` gives, or raises. Where the time is over first, and where this is
    cancelled, `work` is cancelled, and has ended when this does.

    Raises `asyncio.TimeoutError`. Before Python 3.12 `asyncio.wait_for` is not the same:
    cancelled just when `work` has ended, it returns, and whoever cancelled waits for an
    end that may never come.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=limit_s)
        if not task.done():
            raise asyncio.TimeoutError
    except BaseException:
        task.cancel()
        # what it comes to meanwhile, nobody waits for any more
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.result()
