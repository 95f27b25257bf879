"""The unmodified `openai` client, over a real connection: answers, streams, and its own
exceptions.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest

from appliance.api.app import create_app
from appliance.errors import ModelNotReady, PromptTooLong, QueueFull, WorkerLost
from appliance.protocol.events import Delta, Started
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve

HELLO = [{"role": "user", "content": "Hello"}]
KEY = "secret"


@asynccontextmanager
async def openai_to(
    serve: Serve, client: ScriptedClient, key: str = KEY
) -> AsyncIterator[openai.AsyncOpenAI]:
    base_url = serve(create_app(gateway_around(client, keys=[KEY])))
    async with openai.AsyncOpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=0) as api:
        yield api


async def test_chat_whole_and_streamed(serve: Serve) -> None:
    async with openai_to(serve, ScriptedClient(*ANSWER)) as api:
        whole = await api.chat.completions.create(
            model="novels", messages=HELLO, max_tokens=8, temperature=0
        )
        assert whole.choices[0].message.content == "It was a café…"
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert whole.usage.prompt_tokens_details is not None
        assert whole.usage.prompt_tokens_details.cached_tokens == 2

        stream = await api.chat.completions.create(
            model="novels", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "It was a café…"
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 10


async def test_completions_whole_and_streamed(serve: Serve) -> None:
    async with openai_to(serve, ScriptedClient(*ANSWER)) as api:
        whole = await api.completions.create(model="novels", prompt="Once", max_tokens=8)
        assert whole.choices[0].text == "It was a café…"
        stream = await api.completions.create(model="novels", prompt=[1, 2, 3], stream=True)
        texts = [chunk.choices[0].text async for chunk in stream]
    assert texts == ["It was", " a café…", ""]


async def test_models(serve: Serve) -> None:
    async with openai_to(serve, ScriptedClient(*ANSWER)) as api:
        assert [model.id async for model in api.models.list()] == ["novels"]
        assert (await api.models.retrieve("org/novels")).id == "novels"


async def test_the_synchronous_client(serve: Serve) -> None:
    base_url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))

    def talk() -> tuple[str | None, list[str | None]]:
        with openai.OpenAI(base_url=f"{base_url}/v1", api_key="any", max_retries=0) as api:
            whole = api.chat.completions.create(model="novels", messages=HELLO)
            with api.chat.completions.create(model="novels", messages=HELLO, stream=True) as stream:
                return whole.choices[0].message.content, [
                    chunk.choices[0].delta.content for chunk in stream
                ]

    assert await asyncio.to_thread(talk) == ("It was a café…", ["", "It was", " a café…", None])


async def test_its_own_exceptions(serve: Serve) -> None:
    answering = ScriptedClient(*ANSWER)
    async with openai_to(serve, answering) as api:
        with pytest.raises(openai.BadRequestError, match="temperature") as bad:
            await api.chat.completions.create(model="novels", messages=HELLO, temperature=3)
        assert (bad.value.param, bad.value.code) == ("temperature", "invalid_value")
        with pytest.raises(openai.BadRequestError, match="'web_search_options'"):
            await api.chat.completions.create(model="novels", messages=HELLO, web_search_options={})
        with pytest.raises(openai.NotFoundError, match="Served: 'novels'"):
            await api.chat.completions.create(model="gpt-9", messages=HELLO)
    async with openai_to(serve, answering, key="guess") as api:
        with pytest.raises(openai.AuthenticationError):
            await api.models.list()
    assert answering.requests == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (PromptTooLong.of(9000, 8191), openai.BadRequestError),
        (QueueFull("Full."), openai.RateLimitError),
        (ModelNotReady("Loading."), openai.InternalServerError),
    ],
)
async def test_its_own_exceptions_for_what_the_model_refuses(
    serve: Serve, refusal: Exception, expected: type[openai.APIStatusError], stream: bool
) -> None:
    async with openai_to(serve, ScriptedClient(refusal)) as api:
        with pytest.raises(expected, match=re.escape(str(refusal))):
            await api.chat.completions.create(model="novels", messages=HELLO, stream=stream)


async def test_a_stream_that_breaks_raises(serve: Serve) -> None:
    client = ScriptedClient(
        Started(1, 5),
        Delta(request_id=1, text="It was", num_tokens=2),
        WorkerLost("The worker died."),
    )
    async with openai_to(serve, client) as api:
        stream = await api.chat.completions.create(model="novels", messages=HELLO, stream=True)
        texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError, match=r"The worker died\."):
            await anext(stream)
    assert texts == ["", "It was"]


async def test_closing_the_stream_ends_the_request(serve: Serve) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event())
    async with openai_to(serve, client) as api:
        stream = await api.chat.completions.create(model="novels", messages=HELLO, stream=True)
        async with stream:
            await anext(stream)
        await asyncio.wait_for(client.closed.wait(), 30)
