"""Adapters at every door: which ones a request asks the worker for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.adapters import ModelAdapters, ServedAdapter
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.adapters import AdapterKind
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, http_to

LORA, VECTOR = AdapterKind.LORA, AdapterKind.CONTROL_VECTOR
ADAPTERS = (
    ServedAdapter(name="pirate", kind=LORA, scale=1.0),
    ServedAdapter(name="calm", kind=VECTOR, scale=0.25),
    ServedAdapter(name="terse", kind=LORA, scale=0.5),
)
HELLO = [{"role": "user", "content": "Hello"}]
DOORS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/responses": {"input": "Hello"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 9},
    "/completion": {"prompt": "Hello"},
    "/infill": {"input_prefix": "a", "input_suffix": "b"},
}


def http_around(client: ScriptedClient) -> httpx.AsyncClient:
    model = ServedModel(id="base", client=client, created=CREATED, adapters=ModelAdapters(ADAPTERS))
    return http_to(create_app(Gateway(Router([model]), Admission())))


def asked(client: ScriptedClient) -> dict[str, float | None]:
    return {use.name: use.scale for use in client.requests[-1].adapters}


@pytest.mark.parametrize("path", DOORS)
async def test_a_request_names_its_adapters_by_number_or_name(path: str) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        for fields, expected in (
            ({}, {}),
            ({"lora": [{"id": 1, "scale": 2.0}]}, {"terse": 2.0}),
            ({"lora": [{"id": "terse"}, {"id": 0, "scale": -1}]}, {"terse": 0.5, "pirate": -1.0}),
            ({"lora": [{"id": 0, "scale": 0.0}]}, {}),
            ({"control_vectors": [{"id": "calm"}], "lora": []}, {"calm": 0.25}),
            ({"model": "base:pirate"}, {"pirate": 1.0}),
            ({"model": "base:calm"}, {"calm": 0.25}),
            ({"model": "base:pirate", "lora": [{"id": 1}]}, {"terse": 0.5}),
        ):
            response = await http.post(path, json={**DOORS[path], **fields})
            assert response.status_code == 200, response.text
            assert asked(client) == expected, fields


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"lora": [{"id": 2, "scale": 1}]}, "no LoRA adapter 2. It has: 0 (pirate), 1 (terse)"),
        ({"lora": [{"id": "calm"}]}, "no LoRA adapter 'calm'"),
        ({"lora": [{"id": -1}]}, "Invalid 'lora[0].id': Input should be greater than"),
        ({"lora": [{"id": ""}]}, "Invalid 'lora[0].id': String should have at least 1 char"),
        ({"control_vectors": [{"id": 1}]}, "no control vector 1. It has: 0 (calm)"),
        ({"lora": [{"id": 0}, {"id": "pirate"}]}, "'pirate' is named twice"),
        ({"lora": [{"id": 0, "scale": 1e6}]}, "1000"),
        (
            {"model": "base:nobody"},
            "'base:nobody' is not served here: 'base' has no such adapter. ",
        ),
    ],
)
async def test_what_there_is_not_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post("/v1/completions", json={"prompt": "Hello", **fields})
    assert response.status_code in (400, 404), response.text
    assert words in response.json()["error"]["message"]
    assert client.requests == []


async def test_usual_scales_are_those_of_requests_that_name_none() -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        listed = (await http.get("/lora-adapters")).json()
        assert [(each["id"], each["path"], each["scale"]) for each in listed] == [
            (0, "pirate", 0.0),
            (1, "terse", 0.0),
        ]
        changed = await http.post("/lora-adapters", json=[{"id": 1, "scale": 0.75}])
        assert changed.json() == {"success": True}
        listed = (await http.get("/lora-adapters")).json()
        assert [each["scale"] for each in listed] == [0.0, 0.75]
        await http.post("/v1/completions", json={"prompt": "Hello"})
        assert asked(client) == {"terse": 0.75}
        await http.post("/v1/completions", json={"prompt": "Hello", "lora": []})
        assert asked(client) == {}
        await http.post("/v1/completions", json={"prompt": "Hello", "model": "base:pirate"})
        assert asked(client) == {"pirate": 1.0}
        twice = [{"id": 1, "scale": 1}, {"id": 1, "scale": 2}]
        for wrong in ([{"id": 9, "scale": 1}], twice):
            refused = await http.post("/lora-adapters", json=wrong)
            assert refused.status_code == 400
        await http.post("/lora-adapters", json=[])
        await http.post("/v1/completions", json={"prompt": "Hello"})
        assert asked(client) == {}


async def test_models_are_listed_with_their_adapters() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        listed = (await http.get("/v1/models")).json()["data"]
        assert [(each["id"], each.get("parent")) for each in listed] == [
            ("base", None),
            ("base:pirate", "base"),
            ("base:calm", "base"),
            ("base:terse", "base"),
        ]
        one = (await http.get("/v1/models/base:terse")).json()
        assert (one["id"], one["parent"]) == ("base:terse", "base")
