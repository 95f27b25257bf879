"""/v1/embeddings: what is asked of the worker, how its vectors are written, what is
refused, and who leaves.
"""

from __future__ import annotations

import asyncio
import base64
import math
from typing import Any

import httpx
import numpy as np
import pytest

from appliance.api.app import create_app
from appliance.errors import BadRequest, PromptTooLong, WorkerLost
from appliance.protocol.events import EmbedResult
from appliance.protocol.requests import EmbedRequest, TextPrompt, TextRole, TokenPrompt
from tests.api.scripted_client import ScriptedClient, gateway_around, http_around, http_to
from tests.api.serving import Serve

VECTORS = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], "<f4")


def client_with(vectors: np.ndarray[Any, Any], num_tokens: int = 7) -> ScriptedClient:
    client = ScriptedClient()
    client.embedded = EmbedResult(1, vectors.astype("<f4").tobytes(), vectors.shape[1], num_tokens)
    return client


async def post(client: ScriptedClient, **fields: Any) -> httpx.Response:
    async with http_around(client) as http:
        return await http.post("/v1/embeddings", json={"model": "novels", **fields})


async def test_how_long_the_model_stays_goes_with_the_request() -> None:
    client = client_with(VECTORS)
    assert (await post(client, input="one", keep_alive=-1)).status_code == 200
    assert client.embed_requests == [EmbedRequest([TextPrompt("one")], keep_alive_s=math.inf)]


async def test_vectors_as_openai_writes_them() -> None:
    client = client_with(VECTORS)
    response = await post(client, input=["one", "two"], user="me")
    assert response.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": VECTORS[0].tolist()},
            {"object": "embedding", "index": 1, "embedding": VECTORS[1].tolist()},
        ],
        "model": "novels",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("one", [TextPrompt("one")]),
        (["one", "two"], [TextPrompt("one"), TextPrompt("two")]),
        ([5, 6], [TokenPrompt([5, 6])]),
        ([[5, 6], [7]], [TokenPrompt([5, 6]), TokenPrompt([7])]),
    ],
)
async def test_every_kind_of_input(given: Any, asked: list[TextPrompt | TokenPrompt]) -> None:
    client = client_with(VECTORS)
    assert (await post(client, input=given)).status_code == 200
    assert client.embed_requests == [EmbedRequest(asked)]


@pytest.mark.parametrize(
    ("given", "role"),
    [
        (None, None),
        ("query", TextRole.QUERY),
        ("search_query", TextRole.QUERY),
        ("document", TextRole.DOCUMENT),
        ("search_document", TextRole.DOCUMENT),
        ("passage", TextRole.DOCUMENT),
    ],
)
async def test_what_a_text_is_goes_with_the_request(given: str | None, role: TextRole) -> None:
    client = client_with(VECTORS)
    assert (await post(client, input="one", input_type=given)).status_code == 200
    assert client.embed_requests == [EmbedRequest([TextPrompt("one")], role=role)]


async def test_no_other_kind_of_text_is_known() -> None:
    response = await post(client_with(VECTORS), input="one", input_type="image")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input_type"


async def test_base64_is_little_endian_float32() -> None:
    response = await post(client_with(VECTORS), input="x", encoding_format="base64")
    coded = response.json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(coded), "<f4").tolist() == VECTORS[0].tolist()


async def test_dimensions_cut_and_normalize_again() -> None:
    response = await post(client_with(VECTORS[:1]), input="x", dimensions=2)
    assert response.json()["data"][0]["embedding"] == [1.0, 0.0]
    too_many = await post(client_with(VECTORS), input="x", dimensions=4)
    assert too_many.status_code == 400
    assert too_many.json()["error"]["param"] == "dimensions"
    assert "have 3 dimensions" in too_many.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[5], []]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": 5}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "truncate": True}, "truncate"),
    ],
)
async def test_refusals_name_the_parameter(fields: dict[str, Any], param: str) -> None:
    client = client_with(VECTORS)
    response = await post(client, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert client.embed_requests == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PromptTooLong("Input 0 has 600 tokens.", param="input"), 400, "context_length_exceeded"),
        (BadRequest("This model is no embedding model.", param="model"), 400, "invalid_request"),
        (WorkerLost("gone"), 503, "worker_lost"),
    ],
)
async def test_what_the_worker_refuses(error: Exception, status: int, code: str) -> None:
    client = ScriptedClient()
    client.embedded = error
    response = await post(client, input="x")
    assert response.status_code == status
    assert response.json()["error"]["code"] == code


async def test_a_client_that_leaves_cancels_its_request(serve: Serve) -> None:
    client = ScriptedClient()
    client.embedded = asyncio.Event()
    gateway = gateway_around(client)
    async with httpx.AsyncClient(base_url=serve(create_app(gateway))) as http:
        asking = asyncio.create_task(http.post("/v1/embeddings", json={"input": "x"}))
        await client.reached_wait.wait()
        asking.cancel()
        await client.closed.wait()
    assert await gateway.drain(20.0)
    assert (
        b'appliance_requests_total{model="novels",outcome="cancelled"} 1.0'
        in gateway.metrics.render()
    )


async def test_it_is_counted() -> None:
    gateway = gateway_around(client_with(VECTORS))
    async with http_to(create_app(gateway)) as http:
        await http.post("/v1/embeddings", json={"input": "x"})
    rendered = gateway.metrics.render()
    assert b'appliance_requests_total{model="novels",outcome="embedded"} 1.0' in rendered
    assert b'appliance_prompt_tokens_total{model="novels"} 7.0' in rendered
