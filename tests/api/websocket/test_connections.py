"""WebSockets on real sockets: how they open, who may open them, what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from appliance.api.app import create_app
from appliance.api.transport.websocket import protocol
from appliance.protocol.events import Delta, Started
from tests.api.raw_http import converse
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve

PATIENCE_S = 30
HELLO = [{"role": "user", "content": "Hello"}]
CHAT = json.dumps({"type": "chat", "id": "a", "body": {"messages": HELLO}})
PING = '{"type": "ping", "id": "p"}'
PONG = {"id": "p", "type": "pong"}
KEY = "openai-insecure-api-key.secret"
HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)


def address(url: str, path: str = "/v1/stream") -> str:
    return url.replace("http://", "ws://") + path


async def hear(socket: ClientConnection) -> Any:
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_S))


async def test_a_chat_over_a_real_socket_and_one_more_after_a_broken_one(serve: Serve) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    gateway = gateway_around(client)
    url = address(serve(create_app(gateway, resume_s=60)))
    async with connect(url) as socket:
        await socket.send(CHAT)
        heard = [await hear(socket) for _ in range(3)]
        socket.transport.abort()
    await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
    assert gateway.num_requests == 0
    gate.set()
    resume = {"type": "resume", "id": "b", "stream": heard[0]["stream"], "after": 2}
    async with connect(url) as socket:
        await socket.send(json.dumps(resume))
        heard += [await hear(socket) for _ in range(3)]
    assert [message["index"] for message in heard] == [0, 1, 2, 3, 4, 5]
    assert heard[-1]["type"] == "done"


async def test_a_ping_of_the_protocol_is_answered(serve: Serve) -> None:
    async with connect(address(serve(create_app(gateway_around(ScriptedClient()))))) as socket:
        await asyncio.wait_for(await socket.ping(), PATIENCE_S)


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({"additional_headers": {"Authorization": "Bearer secret"}}, None),
        ({"additional_headers": {"x-api-key": "secret"}, "subprotocols": ["chat"]}, "chat"),
        ({"subprotocols": [KEY]}, KEY),
        ({"subprotocols": ["realtime", KEY, "openai-beta.realtime-v1"]}, "realtime"),
        ({"subprotocols": [KEY, "chat"]}, "chat"),
    ],
)
async def test_a_key_opens_it_also_as_a_subprotocol(
    serve: Serve, options: dict[str, Any], chosen: str | None
) -> None:
    url = address(serve(create_app(gateway_around(ScriptedClient(), ["secret"]))))
    async with connect(url, **options) as socket:
        assert socket.subprotocol == chosen
        await socket.send(PING)
        assert await hear(socket) == PONG


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/responses"])
@pytest.mark.parametrize("offered", [(), ("openai-insecure-api-key.guess",), ("secret",)])
async def test_without_the_key_it_is_refused_in_words(
    serve: Serve, path: str, offered: tuple[str, ...]
) -> None:
    url = address(serve(create_app(gateway_around(ScriptedClient(), ["secret"]))), path)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, subprotocols=[Subprotocol(each) for each in offered] or None):
            pass
    response = refused.value.response
    assert response.status_code == 401
    assert json.loads(response.body or b"")["error"]["code"] == "invalid_api_key"


async def test_two_different_keys_are_refused_by_the_names_of_their_places(serve: Serve) -> None:
    url = address(serve(create_app(gateway_around(ScriptedClient(), ["secret", "other"]))))
    headers = {"x-api-key": "other"}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=headers, subprotocols=[Subprotocol(KEY)]):
            pass
    error = json.loads(refused.value.response.body or b"")["error"]
    assert "Sec-WebSocket-Protocol and x-api-key" in error["message"]


async def test_a_page_of_another_origin_is_refused(serve: Serve) -> None:
    url = address(serve(create_app(gateway_around(ScriptedClient()))))
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers={"Origin": "https://evil.example"}):
            pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/models", "There is no WebSocket at /v1/models. The path takes plain HTTP requests."),
        ("/v1/nothing", "There is no WebSocket at /v1/nothing."),
    ],
)
async def test_where_there_is_no_websocket_that_is_said(
    serve: Serve, path: str, words: str
) -> None:
    url = address(serve(create_app(gateway_around(ScriptedClient()))), path)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url):
            pass
    error = json.loads(refused.value.response.body or b"")["error"]
    assert (refused.value.response.status_code, error["code"]) == (404, "unknown_path")
    assert error["message"] == words


@pytest.mark.parametrize("path", ["/stream", "/v1/stream/", "//v1/v1/stream"])
async def test_a_path_is_understood_as_over_http(serve: Serve, path: str) -> None:
    url = address(serve(create_app(gateway_around(ScriptedClient()))), path)
    async with connect(url) as socket:
        await socket.send(PING)
        assert await hear(socket) == PONG


async def test_plain_http_there_is_told_what_the_path_takes(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))
    async with httpx.AsyncClient(base_url=url) as http:
        answer = await http.get("/v1/stream")
        assert (answer.status_code, answer.json()["error"]["code"]) == (426, "upgrade_required")
        assert answer.headers["upgrade"] == "websocket"
        # a path that takes both, asked for neither
        other = await http.get("/v1/responses")
        assert other.status_code == 405
        assert other.headers["allow"] == "OPTIONS, POST"
        assert (await http.options("/v1/responses")).headers["allow"] == "OPTIONS, POST"
        assert (await http.post("/v1/responses", json={"input": "Hello"})).status_code == 200


async def test_a_message_over_the_limit_closes_it(serve: Serve) -> None:
    app = create_app(gateway_around(ScriptedClient()), max_body_bytes=1000)
    async with connect(address(serve(app))) as socket:
        await socket.send("x" * 1001)
        with pytest.raises(ConnectionClosedError) as closed:
            await hear(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_message_in_parts_is_one_and_too_many_parts_are_none(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_PARTS", 30)
    url = address(serve(create_app(gateway_around(ScriptedClient()))))
    async with connect(url) as socket:
        await socket.send(iter(PING))
        assert await hear(socket) == PONG
        await socket.send(iter([""] * 31))
        with pytest.raises(ConnectionClosedError) as closed:
            await hear(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_what_is_no_handshake_is_an_offer_that_is_ignored(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    keyless = HANDSHAKE.replace(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"") % b""
    closing = keyless.replace(b"Connection: Upgrade", b"Connection: Upgrade, close")
    assert (await converse(url, [closing])).startswith(b"HTTP/1.1 426 ")


async def test_a_head_that_websockets_cannot_have_is_refused(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    long_line = HANDSHAKE % (b"Cookie: " + b"x" * 10_000 + b"\r\n")
    assert (await converse(url, [long_line])).startswith(b"HTTP/1.1 431 ")


async def test_an_open_one_may_be_silent_also_on_a_connection_that_was_used(serve: Serve) -> None:
    """The time for a request's head ends with the request."""
    url = serve(create_app(gateway_around(ScriptedClient()), client_timeout_s=0.1))
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"}]}")
    writer.write(HANDSHAKE % b"")
    assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    done, _ = await asyncio.wait({asyncio.create_task(reader.read(1))}, timeout=0.3)
    assert not done
    writer.close()
    await writer.wait_closed()


async def test_who_reads_nothing_is_given_up_and_may_come_back(serve: Serve) -> None:
    long_answer = [
        Started(1, 5),
        *[Delta(request_id=1, text="x" * 100_000, num_tokens=1)] * 300,
        ANSWER[-1],
    ]
    client = ScriptedClient(*long_answer)
    gateway = gateway_around(client)
    url = address(serve(create_app(gateway, client_timeout_s=0.3, resume_s=60)))
    async with connect(url, max_queue=1) as slow, connect(url) as quick:
        await slow.send(CHAT)
        start = await hear(slow)
        await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
        assert gateway.num_requests == 0
        await quick.send(PING)
        assert await hear(quick) == PONG
        last = start["index"]
        async for text in _until_closed(slow):
            last = json.loads(text)["index"]
        resume = {"type": "resume", "id": "a", "stream": start["stream"], "after": last}
        await quick.send(json.dumps(resume))
        assert (await hear(quick))["index"] == last + 1
        quick.transport.abort()


async def _until_closed(socket: ClientConnection) -> AsyncIterator[str | bytes]:
    with contextlib.suppress(ConnectionClosedError):
        while True:
            yield await asyncio.wait_for(socket.recv(), PATIENCE_S)
