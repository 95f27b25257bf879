"""llama.cpp's smaller endpoints: embeddings, counting, adapters, slots' files, errors."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from appliance.api.app import create_app
from appliance.errors import PromptTooLong
from appliance.protocol.events import AskResult, EmbedResult
from appliance.protocol.questions import AskSlot, SlotAction, Tokenize
from appliance.protocol.requests import ChatPrompt, EmbedRequest, TextPrompt
from tests.api.scripted_client import ScriptedClient, gateway_around, http_around, http_to

HELLO = [{"role": "user", "content": "Hello"}]


async def post(client: ScriptedClient, path: str, fields: Any) -> Any:
    async with http_around(client) as http:
        return await http.post(path, json=fields)


def embedding_client() -> ScriptedClient:
    client = ScriptedClient()
    client.embedded = EmbedResult(1, struct.pack("<4f", 0.6, -0.8, 1.0, 0.0), 2, 3)
    return client


@pytest.mark.parametrize(
    ("norm", "rows"),
    [
        ({}, [[0.6, -0.8], [1.0, 0.0]]),
        ({"embd_normalize": 2}, [[0.6, -0.8], [1.0, 0.0]]),
        ({"embd_normalize": 0}, [[24570.0, -32760.0], [32760.0, 0.0]]),
        ({"embd_normalize": 1}, [[0.6 / 1.4, -0.8 / 1.4], [1.0, 0.0]]),
    ],
)
async def test_embeddings_are_rows_of_the_norm_asked_for(
    norm: dict[str, int], rows: list[list[float]]
) -> None:
    client = embedding_client()
    for path in ("/embedding", "/embeddings"):
        body = (await post(client, path, {"content": ["a", "b"], **norm})).json()
        assert [record["index"] for record in body] == [0, 1]
        for record, row in zip(body, rows, strict=True):
            assert record["embedding"] == [pytest.approx(row, rel=1e-6)]
    assert client.embed_requests[0] == EmbedRequest([TextPrompt("a"), TextPrompt("b")])


async def test_embeddings_without_v1_and_with_an_input_are_openais() -> None:
    body = (await post(embedding_client(), "/embeddings", {"input": ["a", "b"]})).json()
    assert body["object"] == "list"
    native = (await post(embedding_client(), "/embedding", {"input": ["a", "b"]})).json()
    assert [record["index"] for record in native] == [0, 1]


async def test_raw_embeddings_are_refused_by_name() -> None:
    response = await post(embedding_client(), "/embedding", {"content": "a", "embd_normalize": -1})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "embd_normalize")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions/input_tokens", {"messages": HELLO}),
        ("/chat/completions/input_tokens", {"messages": HELLO, "model": "novels"}),
        ("/v1/responses/input_tokens", {"input": "Hello"}),
        ("/responses/input_tokens", {"input": "Hello"}),
    ],
)
async def test_a_requests_tokens_are_counted_and_nothing_is_computed(
    path: str, fields: dict[str, Any]
) -> None:
    client = ScriptedClient()
    client.answer = AskResult(1, tokens=[1, 2, 3])
    assert (await post(client, path, fields)).json() == {
        "object": "response.input_tokens",
        "input_tokens": 3,
    }
    [question] = client.questions
    assert isinstance(question, Tokenize)
    assert isinstance(question.prompt, ChatPrompt)
    assert question.prompt.messages == HELLO
    assert client.requests == []


async def test_there_are_no_adapters() -> None:
    async with http_around(ScriptedClient()) as http:
        assert (await http.get("/lora-adapters")).json() == []
        for scales in ([], [{"id": 0, "scale": 0.0}]):
            response = await http.post("/lora-adapters", json=scales)
            assert (response.status_code, response.json()) == (200, {"success": True})
        for wrong in ([{"id": 3, "scale": 0.5}], {}, [{"scale": 1}]):
            response = await http.post("/lora-adapters", json=wrong)
            assert (response.status_code, response.json()["error"]["code"]) == (400, 400)
        refused = await http.post("/lora-adapters", json=[{"id": 3, "scale": 0.5}])
        assert "no LoRA adapter 3" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("action", "body", "asked", "record"),
    [
        (
            "save",
            {"filename": "a.bin"},
            AskSlot(1, SlotAction.SAVE, "a.bin"),
            {"id_slot": 1, "filename": "a.bin", "n_saved": 20, "n_written": 300},
        ),
        (
            "restore",
            {"filename": "a.bin"},
            AskSlot(1, SlotAction.RESTORE, "a.bin"),
            {"id_slot": 1, "filename": "a.bin", "n_restored": 20, "n_read": 300},
        ),
        ("erase", {}, AskSlot(1, SlotAction.ERASE), {"id_slot": 1, "n_erased": 20}),
    ],
)
async def test_a_slots_file_is_asked_for(
    action: str, body: dict[str, str], asked: AskSlot, record: dict[str, Any]
) -> None:
    client = ScriptedClient()
    client.answer = AskResult(1, num_tokens=20, num_bytes=300)
    response = (await post(client, f"/slots/1?action={action}", body)).json()
    timings = response.pop("timings", {f"{action}_ms": 0.0})
    assert [*timings] == [f"{action}_ms"]
    assert (client.questions, response) == ([asked], record)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/slots/1?action=save", {}, "filename"),
        ("/slots/1?action=save", {"filename": "../x"}, "filename"),
        ("/slots/1?action=save", {"filename": "a/b"}, "filename"),
        ("/slots/1?action=restore", {"filename": "a\\b"}, "filename"),
        ("/slots/1?action=restore", {"filename": ""}, "filename"),
        ("/slots/1?action=restore", {"filename": "a\n"}, "filename"),
        ("/slots/1?action=melt", {"filename": "a"}, "action"),
        ("/slots/1", {"filename": "a"}, "action"),
        ("/slots/-1?action=erase", {}, "id_slot"),
        ("/slots/x?action=erase", {}, "id_slot"),
    ],
)
async def test_what_is_wrong_with_a_slots_file_is_named(
    path: str, body: dict[str, str], param: str
) -> None:
    client = ScriptedClient()
    response = await post(client, path, body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert client.questions == []


async def test_errors_have_llama_servers_types_and_numbers() -> None:
    too_long = PromptTooLong.of(9001, 1023)
    response = await post(ScriptedClient(too_long), "/completion", {"prompt": "a"})
    error = response.json()["error"]
    assert error.pop("message") == too_long.message
    assert (response.status_code, error) == (
        400,
        {
            "code": 400,
            "type": "exceed_context_size_error",
            "param": None,
            "reason": "context_length_exceeded",
            "n_prompt_tokens": 9001,
            "n_ctx": 1024,
        },
    )
    app = create_app(gateway_around(ScriptedClient(), keys=["secret"]))
    async with http_to(app) as http:
        denied = await http.post("/completion", json={"prompt": "a"})
        assert (denied.status_code, denied.json()["error"]["type"]) == (401, "authentication_error")
    async with http_around(ScriptedClient()) as http:
        wrong_method = await http.get("/completion")
        assert (wrong_method.status_code, wrong_method.json()["error"]["code"]) == (405, 405)
        unknown = await http.post("/completion", json={"prompt": "a", "model": "other"})
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
