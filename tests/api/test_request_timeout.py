"""A request's time: the header is read, and what is over ends in the shape of its door."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from appliance.api.rerank import PATHS
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


@pytest.mark.parametrize(("path", "body"), CHATS[:4] + CHATS[5:])
@pytest.mark.parametrize(
    ("timeout", "headers"),
    [(0.05, {}), ("50ms", {}), (0.05, {HEADER: "1h"}), (3600, SHORT)],
    ids=["seconds", "a duration", "less than the header", "more than the header"],
)
async def test_the_body_may_say_it_and_the_least_holds(
    path: str, body: dict[str, Any], timeout: object, headers: dict[str, str]
) -> None:
    client = ScriptedClient(*ANSWER[:1], never())
    async with http_around(client) as http:
        response = await http.post(path, json={**body, "timeout": timeout}, headers=headers)
    assert response.status_code == 504
    error = response.json()["error"]
    assert error["message"].startswith("The request was not complete within 0.05 s")
    assert "x-ignored-parameters" not in response.headers


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embedding", "/v1/rerank"])
async def test_the_body_may_say_it_of_vectors(path: str) -> None:
    client = ScriptedClient()
    client.embedded = never()
    inputs = {"input": "a", "query": "a", "documents": ["b"]}
    async with http_around(client) as http:
        response = await http.post(path, json={**inputs, "timeout": 0.05})
    assert response.status_code == 504


@pytest.mark.parametrize("value", [0, -1, "soon", "", True, 1e10, [1], {}])
async def test_a_time_in_the_body_that_is_none_is_refused(value: object) -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(CHATS[0][0], json={**CHATS[0][1], "timeout": value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "timeout"
    assert "above 0, such as 30 (seconds)" in response.json()["error"]["message"]


async def test_it_is_described_wherever_a_model_computes() -> None:
    async with http_around(ScriptedClient()) as http:
        described = (await http.get("/openapi.json")).json()
    schemas = described["components"]["schemas"]
    timed = {name for name, schema in schemas.items() if "timeout" in schema.get("properties", {})}
    paths = set()
    for path, operations in described["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
        if reference.rpartition("/")[2] in timed:
            paths.add(path)
    assert paths >= {path for path, _ in CHATS if not path.startswith("/api/")}
    assert paths >= {"/v1/embeddings", "/embedding", "/infill", *PATHS}


async def test_the_time_of_one_request_is_not_that_of_the_next() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(ANSWER[0], gate, *ANSWER[1:])
    path, body = CHATS[0]
    async with http_around(client) as http:
        assert (await http.post(path, json=body, headers=SHORT)).status_code == 504
        assert (await http.post(path, json={**body, "timeout": 0.05})).status_code == 504
        gate.set()
        assert (await http.post(CHATS[0][0], json=CHATS[0][1])).status_code == 200
