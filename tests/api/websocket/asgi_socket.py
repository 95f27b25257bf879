"""A WebSocket to the application without a network, which the test may cut at any
message. Knows no message.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import Message

PATIENCE_S = 30


class AsgiSocket:
    """What the application sends waits here until it is received, at most `room`
    messages of it: then the application waits.
    """

    def __init__(self, room: int = 0) -> None:
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue(room)

    async def receive_for_app(self) -> Message:
        return await self._inbox.get()

    async def send_for_app(self, message: Message) -> None:
        await self._outbox.put(message)

    def say(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    def say_bytes(self, data: bytes) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "bytes": data})

    async def next_message(self) -> Message:
        return await asyncio.wait_for(self._outbox.get(), PATIENCE_S)

    async def hear(self) -> Any:
        message = await self.next_message()
        assert message["type"] == "websocket.send", message
        return json.loads(message["text"])

    async def hear_to_end(self, *ids: str | int | None) -> list[Any]:
        """All messages until each of these requests has ended."""
        open_ids = [*ids]
        heard = []
        while open_ids:
            message = await self.hear()
            heard.append(message)
            if message["type"] in ("done", "error"):
                open_ids.remove(message["id"])
        return heard

    def cut(self) -> None:
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})

    @property
    def num_waiting(self) -> int:
        """Messages that were sent and not received."""
        return self._outbox.qsize()


@asynccontextmanager
async def connected(
    app: FastAPI,
    path: str = "/v1/stream",
    *,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    room: int = 0,
) -> AsyncIterator[AsgiSocket]:
    """An open socket, which is cut at the end; the application has then cleaned up."""
    socket = AsgiSocket(room)
    named = [("host", "127.0.0.1:8080"), ("x-request-id", "socket"), *headers]
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in named],
        "subprotocols": [*subprotocols],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "scheme": "ws",
        "extensions": {},
        "state": {},
    }
    socket._inbox.put_nowait({"type": "websocket.connect"})
    serving = asyncio.create_task(app(scope, socket.receive_for_app, socket.send_for_app))
    try:
        opened = await socket.next_message()
        assert opened["type"] == "websocket.accept", opened
        yield socket
    finally:
        socket.cut()
        await asyncio.wait_for(serving, PATIENCE_S)
