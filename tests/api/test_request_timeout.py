"""A request's time: the header is read, and what is over ends in the shape of its door."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from appliance.protocol.events import EmbedResult
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

HEADER = "x-request-timeout"
SHORT = {HEADER: "50ms"}
HELLO = [{"role": "user", "content": "Hello"}]
CHATS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": HELLO}),
    ("/v1/completions", {"prompt": "Hello"}),
    ("/v1/responses", {"input": "Hello", "store": False}),
    ("/v1/messages", {"messages": HELLO, "max_tokens": 5, "model": "novels"}),
    ("/api/chat", {"messages": HELLO, "model": "novels", "stream": False}),
    ("/completion", {"prompt": "Hello"}),
]


def never() -> asyncio.Event:
    return asyncio.Event()


@pytest.mark.parametrize(("path", "body"), CHATS)
@pytest.mark.parametrize("num_events", [0, 1, 3])  # before its start, in its prompt, its answer
async def test_what_is_over_is_a_504_in_its_doors_shape(
    path: str, body: dict[str, Any], num_events: int
) -> None:
    client = ScriptedClient(*ANSWER[:num_events], never())
    async with http_around(client) as http:
        response = await http.post(path, json=body, headers=SHORT)
    assert response.status_code == 504
    assert client.closed.is_set()
    error = response.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    assert message.startswith("The request was not complete within 0.05 s")
    if path == "/v1/messages":
        assert error["type"] == "timeout_error"
    elif path == "/v1/chat/completions":
        assert error["code"] == "request_timeout"


async def test_a_stream_that_has_begun_ends_with_the_error() -> None:
    client = ScriptedClient(*ANSWER[:3], never())
    async with http_around(client) as http:
        response = await http.post(
            "/v1/chat/completions", json={"messages": HELLO, "stream": True}, headers=SHORT
        )
    assert response.status_code == 200
    last = [line for line in response.text.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "request_timeout"


async def test_vectors_have_a_time_too() -> None:
    client = ScriptedClient()
    client.embedded = never()
    async with http_around(client) as http:
        response = await http.post("/v1/embeddings", json={"input": "a"}, headers=SHORT)
        assert response.status_code == 504
        client.embedded = EmbedResult(1, b"\0\0\x80?", 1, 1)
        response = await http.post("/v1/embeddings", json={"input": "a"}, headers={HEADER: "1h"})
        assert response.status_code == 200


@pytest.mark.parametrize("value", ["0", "-1", "soon", "", "nan", "1e9", "inf"])
async def test_a_time_that_is_none_is_refused(value: str) -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(CHATS[0][0], json=CHATS[0][1], headers={HEADER: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == HEADER


async def test_the_time_of_one_request_is_not_that_of_the_next() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(ANSWER[0], gate, *ANSWER[1:])
    async with http_around(client) as http:
        assert (await http.post(CHATS[0][0], json=CHATS[0][1], headers=SHORT)).status_code == 504
        gate.set()
        assert (await http.post(CHATS[0][0], json=CHATS[0][1])).status_code == 200
