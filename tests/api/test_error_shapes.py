"""Whatever is refused, at whichever door and by whichever part of the server, is told in
that door's own shape.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from appliance.api.app import create_app
from appliance.errors import ApplianceError, ModelNotReady, QueueFull
from tests.api.raw_http import converse
from tests.api.scripted_client import ScriptedClient, gateway_around, http_to
from tests.api.serving import Serve

PATIENCE_S = 30
SHORT_S = 0.2
KEY = {"authorization": "Bearer secret"}
JSON = {"content-type": "application/json"}
MESSAGES = {"messages": [{"role": "user", "content": "Hello"}]}


@dataclass(frozen=True)
class Door:
    name: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.path}"

    def check(self, status: int, headers: Mapping[str, str], body: Any) -> None:
        """That this is an error of the door's."""
        assert headers["content-type"] == "application/json"
        assert headers["x-request-id"].startswith("req_")
        if self.name == "ollama":
            assert body.keys() == {"error"}
            assert isinstance(body["error"], str)
        elif self.name == "anthropic":
            assert body.keys() == {"type", "error", "request_id"}
            assert body["error"].keys() == {"type", "message"}
            assert headers["x-request-id"] == headers["request-id"] == body["request_id"]
        elif self.name == "llama.cpp":
            assert body["error"].keys() >= {"code", "message", "type"}
            assert body["error"]["code"] == status
        else:
            assert body["error"].keys() == {"message", "type", "param", "code"}


DOORS = [
    Door("openai", "/v1/chat/completions", MESSAGES),
    Door("openai", "/v1/completions", {"prompt": "Hello"}),
    Door("openai", "/v1/responses", {"input": "Hello"}),
    Door("anthropic", "/v1/messages", {**MESSAGES, "max_tokens": 5}),
    Door("anthropic", "/v1/chat/completions", MESSAGES, {"anthropic-version": "2023-06-01"}),
    Door("ollama", "/api/chat", MESSAGES),
    Door("ollama", "/api/generate", {"prompt": "Hello", "raw": False}),
    Door("llama.cpp", "/completion", {"prompt": "Hello"}),
    Door("llama.cpp", "/infill", {"input_prefix": "Hello", "input_suffix": "."}),
]
at_every_door = pytest.mark.parametrize("door", DOORS, ids=str)


async def asked(
    door: Door,
    *,
    method: str = "POST",
    below: str = "",
    body: bytes | None = None,
    headers: Mapping[str, str] = KEY,
    fails: ApplianceError | None = None,
) -> int:
    """The status of a request that is refused in the door's shape."""
    client = ScriptedClient(*([fails] if fails else []))
    app = create_app(gateway_around(client, keys=["secret"]), max_body_bytes=999)
    async with http_to(app) as http:
        response = await http.request(
            method,
            door.path + below,
            content=json.dumps(door.body).encode() if body is None else body,
            headers={**JSON, **door.headers, **headers},
        )
    door.check(response.status_code, response.headers, response.json())
    return response.status_code


@at_every_door
async def test_by_the_application(door: Door) -> None:
    assert await asked(door, headers={}) == 401
    assert await asked(door, below="/no/such/thing") == 404
    assert await asked(door, method="PUT") == 405
    assert await asked(door, body=b" " * 1000) == 413
    assert await asked(door, headers={**KEY, "content-encoding": "br"}) == 415
    assert await asked(door, body=b"{") == 400
    assert await asked(door, body=b"[]") == 400
    assert await asked(door, body=b'{"messages": 1, "prompt": {}, "input": 1}') == 400
    of_a_page = {"origin": "http://evil.example", "content-type": "text/plain"}
    assert await asked(door, headers={**KEY, **of_a_page}) == 400


@at_every_door
async def test_by_the_model(door: Door) -> None:
    assert await asked(door, fails=QueueFull("Full.")) == 429
    assert await asked(door, fails=ModelNotReady("Loading.")) == 503


def answered(door: Door, received: bytes) -> int:
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    number = int(status.split(" ")[1])
    door.check(number, headers, json.loads(body))
    return number


@at_every_door
async def test_by_the_connection(door: Door, serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient()), client_timeout_s=SHORT_S))
    # a line of the head is known once the next one has begun
    sent = {"host": "127.0.0.1", **door.headers, **JSON}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    head = f"POST {door.path}?a=/api HTTP/1.1\r\n{lines}".encode()
    # neither the head nor the body comes
    assert answered(door, await converse(url, [head])) == 408
    assert answered(door, await converse(url, [head, b"content-length: 9\r\n\r\n"])) == 408
    # the head has no end, or is none
    assert answered(door, await endless(url, head + b"x: ")) == 431
    assert answered(door, await converse(url, [head, b"no header\r\n\r\n"])) == 400


async def endless(url: str, begun: bytes) -> bytes:
    """What is answered to a head of which too much comes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(begun + b"y" * 70_000)
    received = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return received
