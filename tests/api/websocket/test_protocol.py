"""The bytes of a WebSocket, without a network: what a client that reads nothing may make
the server keep.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from appliance.api.transport.websocket.protocol import BoundedWebSocket

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PING = b"\x89\x80" + bytes(4)  # empty, and masked with zeros
PONG = b"\x8a\x00"
TEXT = b"\x81\x81" + bytes(4) + b"x"


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.is_reading = True

    def get_extra_info(self, _name: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[BoundedWebSocket, FakeTransport, asyncio.Event]]:
    """A protocol whose application takes one message for each time the event is set."""
    may_take = asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await may_take.wait()
            may_take.clear()
            await receive()

    config = uvicorn.Config(app, log_config=None, ws_ping_interval=None)
    config.load()
    protocol = BoundedWebSocket(config, ServerState(), {})
    transport: Any = FakeTransport()
    protocol.connection_made(transport)
    protocol.data_received(HANDSHAKE)
    while not protocol.handshake_complete:
        await asyncio.sleep(0)
    transport.written = b""
    yield protocol, transport, may_take
    [task] = protocol.tasks
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_pings_are_answered_until_the_client_reads_no_more() -> None:
    async with opened() as (protocol, transport, _):
        protocol.data_received(PING * 3)
        assert (transport.written, transport.is_reading) == (PONG * 3, True)
        protocol.pause_writing()
        protocol.data_received(PING)
        assert not transport.is_reading
        protocol.resume_writing()
        assert transport.is_reading


async def test_messages_between_the_pings_change_nothing() -> None:
    async with opened() as (protocol, transport, may_take):
        protocol.pause_writing()
        protocol.data_received(PING + TEXT)
        may_take.set()
        while not protocol.queue.empty() or may_take.is_set():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not transport.is_reading
        protocol.resume_writing()
        assert transport.is_reading


async def test_a_message_that_waits_is_no_reason_to_read_on() -> None:
    async with opened() as (protocol, transport, _):
        protocol.pause_writing()
        protocol.data_received(PING + TEXT)
        protocol.resume_writing()
        assert not transport.is_reading
