"""What clients of HTTP/1.1 and 1.0 send besides a request, byte for byte, on real sockets:
offers of another protocol, `Expect`, `Connection: close`, no chunks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from appliance.api.app import create_app
from tests.api.raw_http import converse
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve

PATIENCE_S = 30
CHAT = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
STREAM = CHAT[:-1] + b', "stream": true}'

# As Java's HttpClient sends a POST, up to the body (recorded with OpenJDK 17.0.15).
JAVAS_POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Content-Length: %d\r\nHost: 127.0.0.1:8080\r\nHTTP2-Settings: "
    b"AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n"
    b"User-Agent: Java-http-client/17.0.15\r\n"
    b"Content-Type: application/json\r\n\r\n"
) % len(CHAT)


def post(body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [
        b"POST /v1/chat/completions HTTP/" + version,
        b"Host: 127.0.0.1",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", body])


# --- offers of another protocol -------------------------------------------------------


@pytest.mark.parametrize("num_segments", [1, 2, 40])
async def test_javas_client_can_post(serve: Serve, num_segments: int) -> None:
    client = ScriptedClient(*ANSWER)
    url = serve(create_app(gateway_around(client)))
    sent = JAVAS_POST + CHAT
    size = len(sent) // num_segments
    parts = [JAVAS_POST, CHAT]
    if num_segments != 2:
        parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    answer = await converse(url, parts, until=b"}}")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert "café".encode() in answer
    assert len(client.requests) == 1


@pytest.mark.parametrize(
    "offer",
    [b"h2c", b"websocket", b"TLS/1.0", b"IRC/6.9, RTA/x11", b"h2c\r\nHTTP2-Settings: AAEAAEAA"],
)
async def test_an_offer_is_ignored_and_the_connection_goes_on(serve: Serve, offer: bytes) -> None:
    client = ScriptedClient(*ANSWER)
    url = serve(create_app(gateway_around(client)))
    upgrading = (b"Connection: keep-alive, Upgrade", b"Upgrade: " + offer)
    chunked = post(b"", *upgrading, b"Transfer-Encoding: chunked").replace(
        b"Content-Length: 0\r\n", b""
    )
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in CHAT) + b"0\r\n\r\n"
    received = await converse(
        url,
        [
            post(CHAT, *upgrading) + chunked,
            chunks,
            b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(upgrading) + b"\r\n\r\n"
            # and here it ends
            b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\n\r\n"
            b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.count("café".encode()) == 2
    assert received.count(b'"object":"list"') == 1
    assert len(client.requests) == 2


async def test_hundreds_of_offers_in_one_segment_are_read_in_turn(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    offer = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    last = offer.replace(b"Upgrade\r\nUp", b"Upgrade, close\r\nUp")
    received = await converse(url, [offer * 500 + last])
    assert received.count(b"HTTP/1.1 200 OK") == 501


@pytest.mark.parametrize(
    "sent",
    [b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
)
async def test_a_tunnel_or_http_2_itself_is_refused(serve: Serve, sent: bytes) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    assert (await converse(url, [sent])).startswith(b"HTTP/1.1 400 ")


# --- HTTP/1.0 -------------------------------------------------------------------------


async def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection(
    serve: Serve,
) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))
    new = await converse(url, [post(STREAM, b"Connection: close")])
    assert b"transfer-encoding: chunked" in new
    for asked in ((), (b"Connection: keep-alive",), (b"Expect: 100-continue",)):
        head, _, body = (await converse(url, [post(STREAM, *asked, version=b"1.0")])).partition(
            b"\r\n\r\n"
        )
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in head
        assert b"transfer-encoding" not in head
        assert b"content-length" not in head
        assert body.startswith(b"data: {")
        assert body.endswith(b"data: [DONE]\n\n")


async def test_a_whole_answer_to_http_1_0_has_its_length(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))
    head, _, body = (await converse(url, [post(CHAT, version=b"1.0")])).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"connection: close" in head
    assert json.loads(body)["choices"][0]["message"]["content"] == "It was a café…"


# --- what a request asks of its connection --------------------------------------------


async def test_who_waits_for_word_to_send_a_body_gets_it(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))
    sent = post(CHAT, b"Expect: 100-continue", b"Connection: close")
    received = await converse(url, [sent])
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")
    assert received.count(b"100 Continue") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [((), b"401"), ((b"Authorization: Bearer secret",), b"413")],
)
async def test_who_is_refused_before_the_body_is_not_waited_for(
    serve: Serve, headers: tuple[bytes, ...], status: bytes
) -> None:
    gateway = gateway_around(ScriptedClient(*ANSWER), keys=["secret"])
    url = serve(create_app(gateway, max_body_bytes=10))
    sent = post(CHAT, b"Expect: 100-continue", *headers).removesuffix(CHAT)
    received = await converse(url, [sent])
    assert received.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in received


async def test_a_connection_ends_when_it_is_asked_to(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))
    received = await converse(url, [post(CHAT) + post(CHAT, b"Connection: close")])
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.count(b"connection: close") == 1


async def test_the_server_as_a_whole_has_methods(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    sent = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = await converse(url, [sent])
    assert received.startswith(b"HTTP/1.1 204 ")
    assert b"allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST\r\n" in received


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_who_still_sends_a_body_that_is_refused_can_read_why(
    serve: Serve, version: bytes
) -> None:
    client = ScriptedClient(*ANSWER)
    url = serve(create_app(gateway_around(client), max_body_bytes=1000))
    sent = post(b"x" * 20_000_000, b"Connection: close", version=version)
    # and nobody answers what comes behind the last request
    head, _, body = (await converse(url, [sent, post(CHAT)])).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["error"]["code"] == "body_too_large"
    assert client.requests == []


async def test_the_rest_of_a_refused_body_is_not_waited_for_any_longer(serve: Serve) -> None:
    app = create_app(gateway_around(ScriptedClient()), max_body_bytes=10, client_timeout_s=0.3)
    host, port = serve(app).removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = post(b"", b"Connection: close").replace(b"Length: 0", b"Length: 9000000000")
    writer.write(sent)
    assert (await asyncio.wait_for(reader.read(), PATIENCE_S)).startswith(b"HTTP/1.1 413 ")

    async def go_on() -> None:
        while True:
            writer.write(b" " * 1000)
            await writer.drain()
            await asyncio.sleep(0)

    with pytest.raises(ConnectionError):  # the server has closed: what is sent is in vain
        await asyncio.wait_for(go_on(), PATIENCE_S)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
