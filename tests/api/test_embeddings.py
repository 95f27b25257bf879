"""/v1/embeddings and /v1/rerank: requests to texts, vectors to answers, and what is refused."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest

from appliance.errors import BadRequest
from appliance.worker.messages import Answered, Embed, TextPrompt, TokenPrompt
from tests.api.scripted_client import ScriptedClient, http_around


def packed(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


VECTORS = [packed(0.6, 0.0, 0.8), packed(0.0, 1.0, 0.0)]


def client(*vectors: bytes) -> ScriptedClient:
    scripted = ScriptedClient()
    scripted.answer = Answered(1, vectors=list(vectors or VECTORS), num_tokens=9)
    return scripted


async def posted(path: str, scripted: ScriptedClient, **body: Any) -> tuple[int, dict[str, Any]]:
    async with http_around(scripted) as http:
        response = await http.post(path, json=body)
    return response.status_code, response.json()


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("hello", [TextPrompt("hello")]),
        (["a", "b"], [TextPrompt("a"), TextPrompt("b")]),
        ([5, 6], [TokenPrompt([5, 6])]),
        ([[5], [6, 7]], [TokenPrompt([5]), TokenPrompt([6, 7])]),
    ],
)
async def test_every_kind_of_input(given: Any, texts: list[Any]) -> None:
    scripted = client()
    status, _ = await posted("/v1/embeddings", scripted, input=given, user="me")
    assert (status, scripted.questions) == (200, [Embed(texts, "input")])


async def test_numbers_and_base64() -> None:
    _, answer = await posted("/v1/embeddings", client(), input=["a", "b"])
    assert (answer["object"], answer["model"]) == ("list", "novels")
    assert answer["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
    assert [each["index"] for each in answer["data"]] == [0, 1]
    assert answer["data"][0]["embedding"] == pytest.approx([0.6, 0.0, 0.8])
    _, answer = await posted("/v1/embeddings", client(), input=["a", "b"], encoding_format="base64")
    assert base64.b64decode(answer["data"][1]["embedding"]) == VECTORS[1]


async def test_fewer_dimensions_are_of_length_1_again() -> None:
    _, answer = await posted("/v1/embeddings", client(packed(0.6, 0.6, math.sqrt(0.28))), input="a", dimensions=2)
    assert answer["data"][0]["embedding"] == pytest.approx([math.sqrt(0.5)] * 2)
    status, answer = await posted("/v1/embeddings", client(), input="a", dimensions=4)
    assert (status, answer["error"]["param"]) == (400, "dimensions")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": 5}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimension": 4}, "dimension"),
    ],
)
async def test_what_is_wrong_is_named(body: dict[str, Any], param: str) -> None:
    scripted = client()
    status, answer = await posted("/v1/embeddings", scripted, **body)
    assert (status, answer["error"]["param"]) == (400, param)
    assert scripted.questions == []


async def test_what_the_model_refuses_is_told() -> None:
    scripted = client()
    scripted.answer = BadRequest("It has 600 tokens, too many.", param="input[3]")
    status, answer = await posted("/v1/embeddings", scripted, input="a")
    assert (status, answer["error"]["param"]) == (400, "input[3]")


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
async def test_documents_by_how_near_they_are(path: str) -> None:
    scripted = client(packed(1, 0), packed(0.6, 0.8), packed(1, 0), packed(1, 0), packed(-1, 0))
    documents = ["a", {"text": "b"}, "c", "d"]
    status, answer = await posted(path, scripted, query="q", documents=documents, top_n=3, return_documents=True)
    assert status == 200
    assert scripted.questions == [Embed([TextPrompt(text) for text in "qabcd"], "documents")]
    assert [(each["index"], each["document"]["text"]) for each in answer["results"]] == [(1, "b"), (2, "c"), (0, "a")]
    assert [each["relevance_score"] for each in answer["results"]] == pytest.approx([1.0, 1.0, 0.6])
    assert answer["usage"]["total_tokens"] == 9
    assert answer["meta"]["billed_units"]["search_units"] == 1
    _, answer = await posted(path, scripted, query="q", documents=documents)
    assert [each["index"] for each in answer["results"]] == [1, 2, 0, 3]
    assert "document" not in answer["results"][0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": [5]}, "documents[0]"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
        ({"query": "q", "documents": ["a"], "max_tokens_per_doc": 5}, "max_tokens_per_doc"),
    ],
)
async def test_wrong_reranking_is_named(body: dict[str, Any], param: str) -> None:
    status, answer = await posted("/v1/rerank", client(), **body)
    assert (status, answer["error"]["param"]) == (400, param)
