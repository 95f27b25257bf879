"""Whether the client is still there, and still takes what it asked for.

Knows no wire format.

Nobody computes for a closed connection: a client's leaving is noticed also before the
first event, and when nothing is being written, which is when a server by itself would
not notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from starlette.types import Message, Receive, Send

_log = logging.getLogger(__name__)
_DISCONNECTS = ("http.disconnect", "websocket.disconnect")


def impatient(send: Send, timeout_s: float) -> Send:
    """A `send` that cancels its task when the client takes nothing for `timeout_s`: the
    server's buffers are full then.

    The response stays unfinished, so that the server closes the connection.
    """

    async def watched(message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(timeout_s, _give_up, task, timeout_s)
        try:
            await send(message)
        finally:
            timer.cancel()

    return watched


def _give_up(task: asyncio.Task[Any], timeout_s: float) -> None:
    _log.warning(
        "a client did not read its response for %g s: its request has been cancelled", timeout_s
    )
    task.cancel()


async def unless_disconnected(
    receive: Receive, work: Coroutine[Any, Any, None], *beside: Coroutine[Any, Any, None]
) -> None:
    """Runs `work` to its end, or until the client has gone or what runs `beside` it has
    ended: then cancels it and waits for its clean-up.
    """
    await unless_ended(work, _disconnected(receive), *beside)


async def unless_ended(work: Coroutine[Any, Any, None], *beside: Coroutine[Any, Any, None]) -> bool:
    """Runs `work` to its end, or until one of the others has ended: then cancels it and
    waits for its clean-up. Whether it came to its end; raises what it raised.
    """
    working = asyncio.create_task(work)
    others = [asyncio.create_task(each) for each in beside]
    try:
        await asyncio.wait((working, *others), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, *others):
            task.cancel()
        await asyncio.gather(working, *others, return_exceptions=True)
    if working.cancelled():
        return False
    working.result()
    return True


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] not in _DISCONNECTS:
        pass
