"""Over HTTP, an answer from the cache is the one that was computed, in each format, but for
ids and times; `x-cache` tells, and metrics and usage count it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.accounts.caller import ANONYMOUS
from appliance.gateway.answer_cache.answers import AnswerCache
from appliance.gateway.answer_cache.caches import Caches
from appliance.gateway.answer_cache.vectors import EmbeddingCache
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import MIGRATIONS
from appliance.protocol.events import (
    Delta,
    EmbedResult,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Shares,
    Stages,
    Started,
    Times,
    ToolCallPart,
    Usage,
)
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import ScriptedClient, gateway_around, http_to
from tests.gateway.answer_cache.house import client_of, entries_in_memory

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"messages": HELLO, "temperature": 0, "max_tokens": 9}
TEXT = {"prompt": "Once", "temperature": 0}
FUNCTION = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
BODIES: list[tuple[str, Any]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "tools": [FUNCTION]}),
    ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 1}),
    ("/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}}),
    ("/v1/completions", {**TEXT, "logprobs": 1, "seed": 5, "temperature": 1}),
    ("/v1/responses", {"input": "Hello", "temperature": 0, "store": False}),
    ("/v1/messages", {**CHAT, "model": "novels"}),
    ("/api/chat", {"model": "novels", "messages": HELLO, "options": {"temperature": 0}}),
    ("/api/generate", {"model": "novels", "prompt": "Once", "options": {"temperature": 0}}),
    ("/completion", TEXT),
]
# what differs between two answers to the same request, by the names of JSON's fields
_PASSING = re.compile(
    r'"(?:id|item_id|response_id|created|created_at|completed_at|last_event_id|\w+_duration|'
    r'predicted_\w+|prompt_ms|prompt_per_\w+)":(?:"[^"]*"|[\d.e+-]+|null)'
)


def token(text: str) -> SampledToken:
    chosen = LikelyToken(text.encode(), -0.5, id=7)
    return SampledToken(chosen, [chosen], 0)


def answer(*deltas: Delta, has_tool_calls: bool = False) -> tuple[Event, ...]:
    usage = Usage(
        num_prompt_tokens=5,
        num_cached_tokens=2,
        num_completion_tokens=3,
        times=Times(prompt_ms=10.0, completion_ms=20.0),
    )
    finished = Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=usage,
        has_tool_calls=has_tool_calls,
        stages=Stages(queue_ms=1.0, prefill_ms=2.0, decode_ms=3.0, shares=Shares(answer_ms=9.0)),
        repeats=True,
    )
    return (Started(1, 5), *deltas, finished)


WORDS = answer(
    *(
        Delta(request_id=1, text=text, num_tokens=1, tokens=[token(text)])
        for text in ("It", " was", " a café…")
    )
)
CALL = answer(
    Delta(request_id=1, text="", num_tokens=1, reasoning="Hm."),
    Delta(request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(0, "", "call_1", "look")),
    Delta(request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(0, "{}")),
    has_tool_calls=True,
)


@pytest.fixture
async def caches() -> AsyncGenerator[Caches, None]:
    caches = Caches(AnswerCache(entries_in_memory()), EmbeddingCache(entries_in_memory()))
    yield caches
    await caches.close()


def without_passing(response: httpx.Response) -> str:
    text = re.sub(r"(?m)^id: .*$", "", response.text)
    return _PASSING.sub("", text)


def gateway_of(client: ScriptedClient, caches: Caches, **more: Any) -> Gateway:
    return gateway_around(client, caches=caches, **more)


async def posted_twice(app: FastAPI, path: str, body: Any) -> tuple[httpx.Response, httpx.Response]:
    async with http_to(app) as http:
        first = await http.post(path, json=body)
        second = await http.post(path, json=body)
    assert (first.status_code, second.status_code) == (200, 200), first.text
    return first, second


# --- the same answer ------------------------------------------------------------------


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_a_hit_is_the_same_response(
    caches: Caches, path: str, body: Any, is_streamed: bool
) -> None:
    client = client_of(*(CALL if "tools" in body else WORDS))
    app = create_app(gateway_of(client, caches), resume_s=30)
    first, second = await posted_twice(app, path, {**body, "stream": is_streamed})
    assert len(client.requests) == 1
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert without_passing(first) == without_passing(second)
    assert len(second.text) > 100


async def test_a_stream_and_a_whole_answer_are_the_same_one(caches: Caches) -> None:
    client = client_of(*WORDS)
    async with http_to(create_app(gateway_of(client, caches))) as http:
        await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
        whole = await http.post("/v1/chat/completions", json=CHAT)
    assert whole.headers["x-cache"] == "hit"
    assert whole.json()["choices"][0]["message"]["content"] == "It was a café…"


async def test_of_several_answers_all_must_be_there(caches: Caches) -> None:
    client = client_of(*WORDS)
    async with http_to(create_app(gateway_of(client, caches))) as http:
        seeded = {"prompt": "Once", "seed": 1}
        await http.post("/v1/completions", json=seeded)
        both = await http.post("/v1/completions", json={**seeded, "n": 2})
        again = await http.post("/v1/completions", json={**seeded, "n": 2})
    assert (both.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert len(client.requests) == 2
    assert without_passing(both) == without_passing(again)


async def test_without_a_cache_or_with_chance_nothing_is_said(caches: Caches) -> None:
    for app, body in (
        (create_app(gateway_around(client_of(*WORDS))), TEXT),
        (create_app(gateway_of(client_of(*WORDS), caches)), {"prompt": "Once"}),
    ):
        for response in await posted_twice(app, "/v1/completions", body):
            assert "x-cache" not in response.headers


async def test_a_key_gets_no_answer_of_another_one(caches: Caches) -> None:
    app = create_app(gateway_of(client_of(*WORDS), caches, keys=("a-secret", "b-secret")))
    found = []
    for key in ("a-secret", "a-secret", "b-secret"):
        async with http_to(app, authorization=f"Bearer {key}") as http:
            found.append((await http.post("/v1/completions", json=TEXT)).headers["x-cache"])
    assert found == ["miss", "hit", "miss"]


async def test_a_replay_that_is_left_goes_on(caches: Caches) -> None:
    client = client_of(*WORDS)
    gateway = gateway_of(client, caches)
    model = gateway.router.resolve(None)
    request = GenerateRequest(prompt=TextPrompt("Once"), sampling=SamplingParams(seed=1))
    async with gateway.generate_choices(ANONYMOUS, model, [request]) as happening:
        computed = [happened.event async for happened in happening]
    choices = gateway.generate_choices(ANONYMOUS, model, [request])
    choices.keep("stream")
    async with choices as happening:
        replayed = [(await anext(happening)).event, (await anext(happening)).event]
    async with choices as happening:
        replayed += [happened.event async for happened in happening]
    assert len(client.requests) == 1
    assert replayed[1:-1] == computed[1:-1]
    assert isinstance(replayed[-1], Finished)
    assert len(replayed) == len(WORDS)


# --- vectors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/embeddings", "input"), ("/api/embed", "input"), ("/embedding", "content")],
)
async def test_vectors_are_the_same(caches: Caches, path: str, field: str) -> None:
    client = client_of()
    client.embedded = EmbedResult(
        request_id=1,
        values=struct.pack("<4f", 0.6, 0.8, 1.0, 0.0),
        num_values=2,
        num_tokens=7,
        input_tokens=[3, 4],
    )
    body = {"model": "novels", field: ["a", "b"]}
    first, second = await posted_twice(create_app(gateway_of(client, caches)), path, body)
    assert len(client.embed_requests) == 1
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert without_passing(first) == without_passing(second)


# --- what is counted ------------------------------------------------------------------


async def test_hits_are_counted_and_cost_nothing(caches: Caches) -> None:
    usage = UsageLog(UsageFile(Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)))
    gateway = gateway_of(client_of(*WORDS), caches, usage=usage)
    app = create_app(gateway)
    await posted_twice(app, "/v1/completions", TEXT)
    async with http_to(app) as http:
        report = (await http.get("/usage")).json()
        metrics = (await http.get("/metrics")).text
    await usage.close()
    total = report["total"]
    assert (total["requests"], total["completion_tokens"], total["replayed_tokens"]) == (2, 6, 3)
    assert (total["prompt_tokens"], total["cached_prompt_tokens"]) == (10, 2 + 5)
    assert total["machine_s"] == pytest.approx(0.009)
    assert report["seconds_per_token"]["novels"]["completion"] == pytest.approx(0.003)
    for line in (
        'appliance_cache_requests_total{cache="response",model="novels",result="hit"} 1.0',
        'appliance_cache_requests_total{cache="response",model="novels",result="miss"} 1.0',
        'appliance_completion_tokens_total{model="novels"} 3.0',
        'appliance_replayed_tokens_total{model="novels"} 3.0',
        'appliance_queue_time_seconds_count{model="novels"} 1.0',
        'appliance_time_between_tokens_seconds_count{model="novels"} 2.0',
    ):
        assert line in metrics
    assert 'appliance_cache_bytes{cache="response"}' in metrics
