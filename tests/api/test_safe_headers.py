"""No response of whatever kind may be guessed at by a browser, or kept on the way."""

from __future__ import annotations

import pytest

from appliance.api.app import create_app
from tests.api.raw_http import converse
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to
from tests.api.serving import Serve

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


def check(headers: dict[str, str]) -> None:
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/health", 200),
        ("GET", "/v1/models", 200),
        ("OPTIONS", "/v1/models", 204),
        ("PUT", "/v1/models", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/stream", 426),
    ],
)
async def test_responses_have_them(method: str, path: str, status: int) -> None:
    async with http_to(create_app(gateway_around(ScriptedClient(*ANSWER)))) as http:
        response = await http.request(method, path)
    assert response.status_code == status
    check({**response.headers})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "stream": True}),
        ("/api/chat", {**CHAT, "model": "novels"}),
    ],
)
async def test_answers_and_streams_have_them(path: str, body: dict[str, object]) -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER)))
    async with http_to(app) as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200
    check({**response.headers})
    async with http_to(create_app(gateway_around(ScriptedClient(), keys=["secret"]))) as http:
        response = await http.post(path, json=body)
    assert response.status_code == 401
    check({**response.headers})


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, b"431"),
        (
            b"GET /v1/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n",
            b"400",
        ),
    ],
    ids=["no HTTP", "a long head", "half a handshake"],
)
async def test_what_no_application_sees_has_them(serve: Serve, sent: bytes, status: bytes) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    head, _, _ = (await converse(url, [sent])).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first.startswith(f"HTTP/1.1 {status.decode()} ")
    check({name.lower(): value for name, _, value in (line.partition(": ") for line in lines)})
