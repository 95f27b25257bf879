"""The unmodified `anthropic` client, over a real connection: answers, streams, tools,
thinking, counts, models, and its own exceptions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest

from appliance.api.app import create_app
from appliance.errors import ModelNotReady, PromptTooLong, QueueFull, WorkerLost
from appliance.protocol.events import AskResult, Delta, Started
from tests.api.function_calls import CALLS
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve

KEY = "secret"
ASKED: dict[str, Any] = {
    "model": "novels",
    "max_tokens": 2000,
    "messages": [{"role": "user", "content": "Hello"}],
}
THINKING = {"type": "enabled", "budget_tokens": 1024}
TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("look", "note")]


@asynccontextmanager
async def client_of(
    serve: Serve, client: ScriptedClient, key: str = KEY, **options: Any
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    base_url = serve(create_app(gateway_around(client, keys=[KEY]), **options))
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key=key, max_retries=0) as api:
        yield api


async def test_a_message(serve: Serve) -> None:
    async with client_of(serve, ScriptedClient(*ANSWER)) as api:
        message = await api.messages.create(**ASKED)
        assert [block.to_dict() for block in message.content] == [
            {"type": "text", "text": "It was a café…"}
        ]
        assert (message.stop_reason, message.model) == ("end_turn", "novels")
        assert message._request_id is not None
        assert message._request_id.startswith("req_")
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (3, 2, 5)


async def test_a_token_instead_of_a_key(serve: Serve) -> None:
    base_url = serve(create_app(gateway_around(ScriptedClient(*ANSWER), keys=[KEY])))
    async with anthropic.AsyncAnthropic(base_url=base_url, auth_token=KEY, max_retries=0) as api:
        assert (await api.messages.create(**ASKED)).stop_reason == "end_turn"


async def test_a_stream(serve: Serve) -> None:
    with_ids = {"Accept": "text/event-stream"}
    async with client_of(serve, ScriptedClient(*ANSWER), resume_s=30) as api:
        begun = await api.messages.create(**ASKED, stream=True, extra_headers=with_ids)
        events = [event.type async for event in begun]
        async with api.messages.stream(**ASKED) as stream:
            texts = [text async for text in stream.text_stream]
            message = await stream.get_final_message()
    assert events == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert texts == ["It was", " a café…"]
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (3, 2, 5)


async def test_thinking_and_calls_streamed_and_whole(serve: Serve) -> None:
    asked = {**ASKED, "thinking": THINKING, "tools": TOOLS}
    async with client_of(serve, ScriptedClient(*CALLS)) as api:
        whole = await api.messages.create(**asked)
        async with api.messages.stream(**asked) as stream:
            kinds = [event.type async for event in stream]
            message = await stream.get_final_message()
        assert [block.to_dict() for block in message.content] == [
            block.to_dict() for block in whole.content
        ]
        assert message.stop_reason == "tool_use"
        assert [block.type for block in message.content] == [
            "thinking",
            "text",
            "tool_use",
            "tool_use",
        ]
        call = message.content[2]
        assert call.type == "tool_use"
        assert (call.name, call.input) == ("look", {"a": 1})
        assert {"thinking", "signature", "text", "input_json"} <= {*kinds}
        # The client's own records may be sent back.
        results = [
            {"type": "tool_result", "tool_use_id": id_, "content": "ok"}
            for id_ in ("call_1", "call_2")
        ]
        again = [*asked["messages"], {"role": "assistant", "content": message.content}]
        again.append({"role": "user", "content": results})
        assert (await api.messages.create(**{**asked, "messages": again})).usage.output_tokens == 9


async def test_the_synchronous_client(serve: Serve) -> None:
    base_url = serve(create_app(gateway_around(ScriptedClient(*ANSWER))))

    def talk() -> tuple[str, str]:
        with anthropic.Anthropic(base_url=base_url, api_key="any", max_retries=0) as api:
            block = api.messages.create(**ASKED).content[0]
            assert block.type == "text"
            with api.messages.stream(**ASKED) as stream:
                return block.text, "".join(stream.text_stream)

    assert await asyncio.to_thread(talk) == ("It was a café…", "It was a café…")


async def test_counts_and_models(serve: Serve) -> None:
    client = ScriptedClient(*ANSWER)
    client.answer = AskResult(1, tokens=[7, 8, 9])
    async with client_of(serve, client) as api:
        count = await api.messages.count_tokens(
            model="novels", messages=ASKED["messages"], system="Be brief."
        )
        assert count.input_tokens == 3
        models = [model async for model in api.models.list()]
        one = await api.models.retrieve("org/novels")
        beta = await api.beta.messages.create(**ASKED, betas=["context-1m-2025-08-07"])
    assert [model.id for model in models] == [one.id] == ["novels"]
    assert one.created_at.year == 2023
    assert beta.stop_reason == "end_turn"


async def test_its_own_exceptions(serve: Serve) -> None:
    client = ScriptedClient(*ANSWER)
    async with client_of(serve, client) as api:
        with pytest.raises(anthropic.BadRequestError, match="temperature"):
            await api.messages.create(**ASKED, extra_body={"temperature": 3})
        with pytest.raises(anthropic.NotFoundError, match="Served: 'novels'"):
            await api.messages.create(**{**ASKED, "model": "claude-9"})
        with pytest.raises(anthropic.NotFoundError, match="There is no such path"):
            await api.messages.batches.list()
    async with client_of(serve, client, key="guess") as api:
        with pytest.raises(anthropic.AuthenticationError) as denied:
            await api.models.list()
    assert denied.value.request_id is not None
    assert denied.value.request_id.startswith("req_")
    assert client.requests == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "expected", "words"),
    [
        (PromptTooLong.of(9000, 8191), anthropic.BadRequestError, "9000 tokens > 8191 maximum"),
        (QueueFull("Full."), anthropic.RateLimitError, "Full"),
        (ModelNotReady("Loading."), anthropic.InternalServerError, "Loading"),
    ],
)
async def test_its_own_exceptions_for_what_the_model_refuses(
    serve: Serve,
    refusal: Exception,
    expected: type[anthropic.APIStatusError],
    words: str,
    stream: bool,
) -> None:
    async with client_of(serve, ScriptedClient(refusal)) as api:
        with pytest.raises(expected, match=words):
            await api.messages.create(**ASKED, stream=stream)


async def test_a_stream_that_breaks_raises(serve: Serve) -> None:
    client = ScriptedClient(
        Started(1, 5),
        Delta(request_id=1, text="It was", num_tokens=2),
        WorkerLost("The worker died."),
    )
    async with client_of(serve, client) as api:
        stream = await api.messages.create(**ASKED, stream=True)
        kinds = [(await anext(stream)).type for _ in range(3)]
        with pytest.raises(anthropic.APIStatusError, match=r"The worker died\."):
            await anext(stream)
    assert kinds == ["message_start", "content_block_start", "content_block_delta"]


async def test_closing_the_stream_ends_the_request(serve: Serve) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event())
    async with client_of(serve, client) as api:
        async with await api.messages.create(**ASKED, stream=True) as stream:
            await anext(stream)
        await asyncio.wait_for(client.closed.wait(), 30)


async def test_a_silent_stream_holds_pings(serve: Serve) -> None:
    """Before it is accepted and after: the client skips them."""
    gates = asyncio.Event(), asyncio.Event()
    client = ScriptedClient(gates[0], *ANSWER[:2], gates[1], *ANSWER[2:])
    seen = []
    async with (
        client_of(serve, client, sse_keep_alive_s=0.02) as api,
        api.messages.with_streaming_response.create(**ASKED, stream=True) as raw,
    ):
        async for line in raw.iter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
            if seen[-2:] == ["ping", "ping"]:
                gates["message_start" in seen].set()
    order = [name for name in seen if name != "ping"]
    assert order == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert seen[:2] == ["ping", "ping"]
