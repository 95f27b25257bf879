"""The model `auto` at every door that takes a model: the answer names who gave it, its headers
and its usage say why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import CallerLimits
from appliance.gateway.accounts.key_records import KeyTerms
from appliance.gateway.accounts.keyring import Keyring
from appliance.gateway.library.facts import ModelFacts
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.events import Delta, Finished, FinishReason, Started, Usage
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, Step, http_to
from tests.api.websocket.asgi_socket import connected
from tests.gateway.accounts.clock import Clock
from tests.gateway.accounts.made_keys import MadeKeys

HELLO = [{"role": "user", "content": "Hello"}]
CUT: tuple[Step, ...] = (
    Started(1, 5),
    Delta(request_id=1, text="Once", num_tokens=1),
    Finished(
        request_id=1,
        reason=FinishReason.LENGTH,
        usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=99),
    ),
)
SCORE = "score 0 of 100 (nothing in it): tier 1 of 2"
CUT_REASON = f"{SCORE}; small: its answer was cut after 99 tokens"
BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 99},
    "/v1/responses": {"input": "Hello", "store": False},
    "/v1/messages": {"messages": HELLO, "max_tokens": 99},
    "/api/chat": {"messages": HELLO},
    "/api/generate": {"prompt": "Hello"},
    "/completion": {"prompt": "Hello"},
    "/infill": {"input_prefix": "Hello", "input_suffix": ""},
}
HAVE_USAGE = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


class House:
    """Two models; the small one's answers are always cut."""

    def __init__(self) -> None:
        self.made = MadeKeys({"small": KeyTerms(limits=CallerLimits(models=("small",)))})
        self.clients = {"small": ScriptedClient(*CUT), "large": ScriptedClient(*ANSWER)}
        keyring = Keyring(self.made.records, clocks=Clock().clocks)
        router = Router([self._served("large", 2), self._served("small", 1)])
        self.app = create_app(Gateway(router, Admission(["file-key"], keyring)))

    def _served(self, name: str, num_params: int) -> ServedModel:
        facts = ModelFacts(num_params=num_params, num_bytes=1)
        client = self.clients[name]
        return ServedModel(id=name, client=client, created=CREATED, facts=lambda: facts)

    def http(self, key: str = "file-key") -> httpx.AsyncClient:
        return http_to(self.app, authorization=f"Bearer {self.made.keys.get(key, key)}")


@pytest.mark.parametrize("path", BODIES)
async def test_the_answer_names_the_model_that_gave_it(path: str) -> None:
    house = House()
    async with house.http() as http:
        body = {"model": "auto", "stream": False, **BODIES[path]}
        answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == answer.headers["x-auto-model"] == "large"
    assert answer.headers["x-auto-reason"] == CUT_REASON
    assert "café" in answer.json().__str__()
    if path in HAVE_USAGE:
        assert answer.json()["usage"]["x_auto"] == {
            "model": "large",
            "score": 0,
            "reason": CUT_REASON,
            "asked": ["small", "large"],
        }


@pytest.mark.parametrize("path", BODIES)
async def test_a_stream_names_it_from_its_first_event(path: str) -> None:
    house = House()
    async with house.http() as http:
        body = {"model": "auto", "stream": True, **BODIES[path]}
        answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-auto-model"], answer.headers["x-auto-reason"]) == ("small", SCORE)
    assert '"model":"small"' in answer.text
    assert '"model":"auto"' not in answer.text
    assert not house.clients["large"].requests


async def test_usage_in_a_stream() -> None:
    async with House().http() as http:
        body = {"model": "auto", "stream": True, "stream_options": {"include_usage": True}}
        answer = await http.post("/v1/chat/completions", json={**body, "messages": HELLO})
    records = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
    assert records[-1]["usage"]["x_auto"] == {
        "model": "small",
        "score": 0,
        "reason": SCORE,
        "asked": ["small"],
    }
    assert {record["model"] for record in records} == {"small"}


async def test_over_a_websocket_the_first_message_says_it() -> None:
    house = House()
    asked = {"type": "chat", "id": "a", "body": {"model": "auto", "messages": HELLO}}
    async with connected(house.app, headers=[("authorization", "Bearer file-key")]) as socket:
        socket.say(asked)
        [start, *_] = await socket.hear_to_end("a")
        assert (start["auto_model"], start["auto_reason"]) == ("small", SCORE)
        socket.say({**asked, "id": "b", "body": {**asked["body"], "stream": False}})  # type: ignore[dict-item]
        [start, record, _] = await socket.hear_to_end("b")
        assert (start["auto_model"], record["data"]["model"]) == ("large", "large")


async def test_lists_have_it_where_there_is_a_choice() -> None:
    house = House()
    async with house.http() as http:
        listed = (await http.get("/v1/models")).json()["data"]
        of_one = (await http.get("/v1/models/auto")).json()
        headers = {"anthropic-version": "2023-06-01"}
        anthropic = (await http.get("/v1/models", headers=headers)).json()["data"]
        named = await http.post("/v1/chat/completions", json={"model": "large", "messages": HELLO})
    assert [model["id"] for model in listed] == ["large", "small", "auto"]
    assert [model["id"] for model in anthropic] == ["large", "small", "auto"]
    assert listed[-1] == of_one
    assert (of_one["tiers"], of_one["state"], of_one["ctx"]) == (["small", "large"], "ready", 2048)
    assert "x-auto-model" not in named.headers
    assert "x_auto" not in named.json()["usage"]


async def test_a_key_for_one_model_is_answered_by_that_one() -> None:
    house = House()
    async with house.http("small") as http:
        listed = (await http.get("/v1/models")).json()["data"]
        answer = await http.post("/v1/chat/completions", json={"model": "auto", "messages": HELLO})
    assert [model["id"] for model in listed] == ["small"]
    assert answer.json()["model"] == "small"
    assert answer.headers["x-auto-reason"] == SCORE
    assert not house.clients["large"].requests


async def test_prompts_are_counted_by_the_smallest() -> None:
    house = House()
    async with house.http() as http:
        count = {"model": "auto", "messages": HELLO}
        assert (await http.post("/v1/messages/count_tokens", json=count)).status_code == 200
        assert (await http.post("/tokenize", json={"model": "auto", "content": "x"})).is_success
    assert len(house.clients["small"].questions) == 2
    assert not house.clients["large"].questions
