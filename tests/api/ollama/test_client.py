"""Ollama's official Python client, with a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import ollama
import pytest

from appliance.api.app import create_app
from tests.api.function_calls import CALLS
from tests.api.ollama.talk import timed
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around


def client_of(scripted: ScriptedClient) -> ollama.AsyncClient:
    app = create_app(gateway_around(scripted))
    return ollama.AsyncClient("http://127.0.0.1:8080", transport=httpx.ASGITransport(app))


@pytest.fixture
async def novels() -> AsyncIterator[ollama.AsyncClient]:
    async with client_of(ScriptedClient(*timed(ANSWER))) as client:
        yield client


async def test_chat_and_generate(novels: ollama.AsyncClient) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    whole = await novels.chat("novels", messages, options={"temperature": 0}, keep_alive="5m")
    assert whole.message.content == "It was a café…"
    assert (whole.done, whole.done_reason, whole.eval_count) == (True, "stop", 5)
    assert (whole.prompt_eval_duration, whole.eval_duration) == (1_500_000, 2_250_000)
    pieces = [piece async for piece in await novels.generate("novels", "Hello", stream=True)]
    assert [piece.response for piece in pieces] == ["It was", " a café…", ""]
    again = await novels.generate("novels", "More", context=pieces[-1].context)
    assert again.response == "It was a café…"


def look(place: str) -> str:
    """Looks at a place.

    Args:
        place: Where to look.
    """
    return place


async def test_thinking_and_functions() -> None:
    scripted = ScriptedClient(*CALLS)
    async with client_of(scripted) as client:
        messages: list[dict[str, object] | ollama.Message] = [{"role": "user", "content": "Look"}]
        called = (await client.chat("novels", messages, tools=[look], think=True)).message
        assert (called.thinking, called.content) == ("Hm", "Ok")
        assert called.tool_calls is not None
        assert [call.function.name for call in called.tool_calls] == ["look", "note"]
        assert called.tool_calls[0].function.arguments == {"a": 1}
        result = {"role": "tool", "content": "a cat", "tool_name": "look"}
        await client.chat("novels", [*messages, called, result], tools=[look])
    shown, _ = scripted.requests[0].prompt.tools[0], scripted.requests[1]
    assert shown["function"]["description"] == "Looks at a place."
    assert [message["role"] for message in scripted.requests[1].prompt.messages] == [
        "user",
        "assistant",
        "tool",
    ]


async def test_lists_and_refusals(novels: ollama.AsyncClient) -> None:
    assert [model.model for model in (await novels.list()).models] == ["novels:latest"]
    [running] = (await novels.ps()).models
    assert (running.model, running.context_length) == ("novels:latest", 2048)
    assert (await novels.show("novels")).capabilities == ["completion", "tools"]
    with pytest.raises(ollama.ResponseError, match="model 'other' not found") as refused:
        await novels.show("other")
    assert refused.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="do not change") as refused:
        await novels.pull("org/repo")
    assert refused.value.status_code == 403
