"""One WebSocket as the endpoints have it: messages in, one after the other; texts out,
no faster than the client takes them.

Knows no message. A client that stays but takes nothing for the application's
`client_timeout_s` loses the connection, and with it what was computed for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from appliance.api.door.keys import subprotocol_of

_log = logging.getLogger(__name__)


class MessageConnection:
    """`start` gives it work that ends with the connection, and whose `send` waits for
    the client alone.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._timeout_s: float = socket.app.state.client_timeout_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._receiving: asyncio.Task[None] | None = None

    async def serve(self, handle: Callable[[bytes], Awaitable[None]]) -> None:
        """Opens it, and hands on every message until it is closed; then all work that
        was started is cancelled, and has cleaned up.
        """
        await self._socket.accept(subprotocol=subprotocol_of(self._socket.scope["subprotocols"]))
        self._receiving = asyncio.create_task(self._receive(handle))
        try:
            await asyncio.wait((self._receiving,))
        finally:
            tasks = (self._receiving, *self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._receiving.cancelled():
            self._receiving.result()  # raises what it raised

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def send(self, text: bytes) -> None:
        """Returns when there is room for more.

        Raises `CancelledError` where the connection is closed already: what is sent is
        then no failure of who sends it.
        """
        timer = asyncio.get_running_loop().call_later(self._timeout_s, self._give_up)
        try:
            await self._socket.send({"type": "websocket.send", "text": text.decode()})
        except (WebSocketDisconnect, RuntimeError):  # the latter: after a close of our own
            raise asyncio.CancelledError from None
        finally:
            timer.cancel()

    async def _receive(self, handle: Callable[[bytes], Awaitable[None]]) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            await handle((message.get("text") or "").encode() if data is None else data)

    def _give_up(self) -> None:
        assert self._receiving is not None, "nothing is sent before it is open"
        _log.warning(
            "a client did not read its WebSocket for %g s: it has been closed", self._timeout_s
        )
        self._receiving.cancel()
