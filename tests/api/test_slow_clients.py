"""Clients that keep a connection and do not move, on real sockets: they lose their request, not others theirs."""

from __future__ import annotations

import asyncio
import json

from appliance.api.app import create_app
from appliance.worker.messages import Delta, Started
from tests.api.conftest import Serve
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around

PATIENCE_S = 30
SHORT_S = 0.3
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
# More than the sockets' and the server's buffers hold together.
LONG_ANSWER = [Started(1, 5), *[Delta(1, "x" * 100_000, 1)] * 300, *ANSWER[1:]]


def head(content_length: int) -> bytes:
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {content_length}\r\n\r\n"
    ).encode()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port), limit=1024)


async def test_a_stream_that_nobody_reads_is_given_up(serve: Serve) -> None:
    client = ScriptedClient(*LONG_ANSWER)
    gateway = gateway_around(client)
    reader, writer = await connect(serve(create_app(gateway, client_timeout_s=SHORT_S)))
    body = json.dumps(CHAT).encode()
    writer.write(head(len(body)) + body)
    await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
    assert await gateway.drain(PATIENCE_S)
    received = await asyncio.wait_for(reader.read(), PATIENCE_S)  # to the end: the server has closed
    assert received.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" not in received
    writer.close()
    await writer.wait_closed()


async def test_a_stream_that_is_read_late_but_in_time_comes_whole(serve: Serve) -> None:
    client = ScriptedClient(*LONG_ANSWER)
    reader, writer = await connect(serve(create_app(gateway_around(client), client_timeout_s=PATIENCE_S)))
    body = json.dumps(CHAT).encode()
    writer.write(head(len(body)) + body)
    received = await asyncio.wait_for(reader.readuntil(b"\r\n"), PATIENCE_S)
    assert received.startswith(b"HTTP/1.1 200")
    num_bytes = 0
    while not received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
        part = await asyncio.wait_for(reader.read(1 << 20), PATIENCE_S)
        num_bytes += len(part)
        received = received[-100:] + part
    assert num_bytes > 30_000_000
    writer.close()
    await writer.wait_closed()


async def test_a_body_that_does_not_arrive_is_408_and_the_connection_ends(serve: Serve) -> None:
    client = ScriptedClient(*ANSWER)
    reader, writer = await connect(serve(create_app(gateway_around(client), client_timeout_s=SHORT_S)))
    writer.write(head(1000) + b'{"messages": [')
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)  # to the end: the server has closed
    status, _, rest = answer.partition(b"\r\n")
    assert status == b"HTTP/1.1 408 Request Timeout"
    error = json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "body_too_slow", None)
    assert "0.3 s" in error["message"]
    assert client.requests == []
    writer.close()
    await writer.wait_closed()
