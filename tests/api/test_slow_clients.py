"""Clients that keep a connection and do not move, on real sockets: they lose their
request, not others theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from appliance.api.app import create_app
from appliance.api.transport.connection import PatientConnection
from appliance.protocol.events import Delta, Started
from tests.api.raw_http import converse
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve

PATIENCE_S = 30
SHORT_S = 0.3
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
# More than the sockets' and the server's buffers hold together.
LONG_ANSWER = [
    Started(1, 5),
    *[Delta(request_id=1, text="x" * 100_000, num_tokens=1)] * 300,
    *ANSWER[1:],
]


def head(content_length: int) -> bytes:
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
        f"application/json\r\nContent-Length: {content_length}\r\n\r\n"
    ).encode()


def refusal(answer: bytes) -> tuple[bytes, dict[str, Any]]:
    """Its status line, and the error it tells."""
    status, _, rest = answer.partition(b"\r\n")
    error: dict[str, Any] = json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
    return status, error


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
    # to the end: the server has closed
    received = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" not in received
    writer.close()
    await writer.wait_closed()


async def test_a_stream_that_is_read_late_but_in_time_comes_whole(serve: Serve) -> None:
    client = ScriptedClient(*LONG_ANSWER)
    reader, writer = await connect(
        serve(create_app(gateway_around(client), client_timeout_s=PATIENCE_S))
    )
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


@pytest.mark.parametrize(
    "sent",
    [b"POST /v1/chat", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: 1\r\n", head(0)[:-2]],
)
async def test_a_head_that_does_not_arrive_is_408_and_the_connection_ends(
    serve: Serve, sent: bytes
) -> None:
    reader, writer = await connect(
        serve(create_app(gateway_around(ScriptedClient()), client_timeout_s=SHORT_S))
    )
    writer.write(sent)
    status, error = refusal(await asyncio.wait_for(reader.read(), PATIENCE_S))
    assert (status, error["code"]) == (b"HTTP/1.1 408 Request Timeout", "head_too_slow")
    writer.close()
    await writer.wait_closed()


async def test_a_head_that_comes_byte_by_byte_has_no_more_time(serve: Serve) -> None:
    reader, writer = await connect(
        serve(create_app(gateway_around(ScriptedClient()), client_timeout_s=SHORT_S))
    )
    answer = asyncio.create_task(reader.read())
    writer.write(b"GET /health HTTP/1.1\r\n")
    while not answer.done():
        writer.write(b"X: y\r\n")
        await asyncio.wait({answer}, timeout=SHORT_S / 10)
    assert refusal(answer.result())[1]["code"] == "head_too_slow"
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_who_says_nothing_at_all_is_left(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient()), client_timeout_s=SHORT_S))
    reader, writer = await connect(url)
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()
    await writer.wait_closed()
    # line ends in front of a request are no request, also behind an answer
    reader, writer = await connect(url)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"}]}"), PATIENCE_S)).startswith(
        b"HTTP/1.1 200"
    )
    writer.write(b"\r\n")
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()
    await writer.wait_closed()


async def test_an_endless_head_is_431_and_what_is_no_http_400(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient()), client_timeout_s=PATIENCE_S))
    for sent, expected in (
        (
            b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 70_000,
            (b"HTTP/1.1 431 Request Header Fields Too Large", "head_too_large"),
        ),
        (b"\x16\x03\x01 no TLS here\r\n\r\n", (b"HTTP/1.1 400 Bad Request", "invalid_request")),
    ):
        reader, writer = await connect(url)
        writer.write(sent)
        status, error = refusal(await asyncio.wait_for(reader.read(), PATIENCE_S))
        assert (status, error["code"]) == expected
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


async def test_a_body_in_chunks_of_one_byte_is_read_and_an_endless_trailer_is_not(
    serve: Serve,
) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER)), client_timeout_s=PATIENCE_S))
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 50_000}]}).encode()
    reader, writer = await connect(url)
    chunks = b"".join(b"01\r\n%c\r\n" % byte for byte in body)
    writer.write(CHUNKED + chunks + b"0\r\nX-Trailer: y\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"}}"), PATIENCE_S)).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    for trailers in (b"X: y\r\n" * 20_000, b"X: " + b"y" * 100_000):
        reader, writer = await connect(url)
        writer.write(CHUNKED + b"2\r\n{}\r\n0\r\n" + trailers)
        with contextlib.suppress(ConnectionError):  # the server closes and leaves the rest unread
            received = await asyncio.wait_for(reader.read(), PATIENCE_S / 2)
            assert refusal(received)[0] == b"HTTP/1.1 431 Request Header Fields Too Large"
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("size", [b"zz", b"-5", b"f" * 17])
async def test_a_chunk_size_that_is_no_number_is_400(serve: Serve, size: bytes) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER)), client_timeout_s=PATIENCE_S))
    reader, writer = await connect(url)
    writer.write(CHUNKED + size + b"\r\n{}\r\n0\r\n\r\n")
    status, error = refusal(await asyncio.wait_for(reader.read(), PATIENCE_S))
    assert (status, error["code"]) == (b"HTTP/1.1 400 Bad Request", "invalid_request")
    writer.close()
    await writer.wait_closed()


async def test_a_request_on_a_kept_connection_has_its_own_time_and_ends_no_answer_before(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_is_over, give_up = asyncio.Event(), PatientConnection._give_up

    def watched(connection: PatientConnection) -> None:
        give_up(connection)
        time_is_over.set()

    monkeypatch.setattr(PatientConnection, "_give_up", watched)
    gate = asyncio.Event()
    client = ScriptedClient(Started(1, 5), gate, *ANSWER[1:])
    reader, writer = await connect(
        serve(create_app(gateway_around(client), client_timeout_s=SHORT_S))
    )
    body = json.dumps({**CHAT, "stream": False}).encode()
    writer.write(head(len(body)) + body + b"GET /hea")  # and never the rest of it
    await asyncio.wait_for(client.reached_wait.wait(), PATIENCE_S)
    await asyncio.wait_for(time_is_over.wait(), PATIENCE_S)
    gate.set()
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert answer.startswith(b"HTTP/1.1 200")
    assert "café".encode() in answer
    writer.close()
    await writer.wait_closed()


async def test_a_request_right_behind_a_body_that_nobody_reads_is_answered(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER)), client_timeout_s=PATIENCE_S))
    head = "POST /api/blobs/sha256:{} HTTP/1.1\r\nHost: 127.0.0.1\r\n".format("a" * 64)
    head += "Content-Type: application/octet-stream\r\nContent-Length: 200000\r\n\r\n"
    asked = b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    for parts in (
        [head.encode() + b"x" * 200_000 + asked],
        [head.encode(), b"x" * 200_000 + asked[:20], asked[20:]],
    ):
        received = await converse(url, parts)
        assert received.count(b"HTTP/1.1 403") == 1  # models do not change there
        assert received.count(b"HTTP/1.1 200") == 1


async def test_requests_that_come_by_thousands_in_a_row_are_answered(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient()), client_timeout_s=PATIENCE_S))
    asked = b"GET /api/version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    last = asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    received = await converse(url, [asked * 2_999 + last])
    assert received.count(b"HTTP/1.1 200") == 3_000


async def test_a_body_that_does_not_arrive_is_408_and_the_connection_ends(serve: Serve) -> None:
    client = ScriptedClient(*ANSWER)
    reader, writer = await connect(
        serve(create_app(gateway_around(client), client_timeout_s=SHORT_S))
    )
    writer.write(head(1000) + b'{"messages": [')
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)  # to the end: the server has closed
    status, error = refusal(answer)
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "body_too_slow",
        None,
    )
    assert "0.3 s" in error["message"]
    assert client.requests == []
    writer.close()
    await writer.wait_closed()
