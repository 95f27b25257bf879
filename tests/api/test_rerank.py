"""/v1/rerank: one answer that clients of Jina and of Cohere read."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from appliance.protocol.events import EmbedResult
from appliance.protocol.requests import RerankRequest
from tests.api.scripted_client import ScriptedClient, http_around

DOCUMENTS = ["first", {"text": "second"}, "third", "fourth"]


def scoring(*scores: float) -> ScriptedClient:
    client = ScriptedClient()
    client.embedded = EmbedResult(1, np.array(scores, "<f4").tobytes(), 1, 30)
    return client


async def post(client: ScriptedClient, path: str = "/v1/rerank", **fields: Any) -> httpx.Response:
    async with http_around(client) as http:
        return await http.post(path, json={"query": "which?", "documents": DOCUMENTS, **fields})


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_the_best_come_first_and_of_equals_the_earlier(path: str) -> None:
    client = scoring(0.25, 0.5, 0.25, -2.0)
    answer = (await post(client, path, model="novels")).json()
    assert client.embed_requests == [
        RerankRequest("which?", ["first", "second", "third", "fourth"])
    ]
    assert answer == {
        "object": "list",
        "model": "novels",
        "results": [
            {"index": 1, "relevance_score": 0.5},
            {"index": 0, "relevance_score": 0.25},
            {"index": 2, "relevance_score": 0.25},
            {"index": 3, "relevance_score": -2.0},
        ],
        "usage": {"total_tokens": 30, "prompt_tokens": 30},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }


async def test_as_many_as_wanted_with_their_text() -> None:
    answer = (await post(scoring(1, 2, 3, 4), top_n=2, return_documents=True)).json()
    assert answer["results"] == [
        {"index": 3, "relevance_score": 4.0, "document": {"text": "fourth"}},
        {"index": 2, "relevance_score": 3.0, "document": {"text": "third"}},
    ]
    assert len((await post(scoring(1, 2, 3, 4), top_n=9)).json()["results"]) == 4


async def test_what_of_a_document_counts_and_how_long_the_model_stays_go_with_the_request() -> None:
    client = scoring(1, 2, 3, 4)
    assert (await post(client, max_tokens_per_doc=100, keep_alive="5m")).status_code == 200
    [request] = client.embed_requests
    assert isinstance(request, RerankRequest)
    assert (request.max_document_tokens, request.keep_alive_s) == (100, 300.0)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "one"}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": [{"title": "a"}]}, "documents[0].text"),
        ({"documents": ["a"] * 1025}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"max_chunks_per_doc": 3}, "max_chunks_per_doc"),
    ],
)
async def test_refusals_name_the_parameter(fields: dict[str, Any], param: str) -> None:
    response = await post(scoring(1), **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
