"""Conversations with OpenAI's client: their items, and responses that continue them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from appliance.errors import WorkerLost
from appliance.protocol.requests import ChatPrompt
from tests.api.scripted_client import ANSWER, ScriptedClient
from tests.api.stored_responses.conftest import KEYS, ApiTo


def said(text: str) -> Any:
    return {"role": "user", "content": text}


async def texts_in(api: openai.AsyncOpenAI, conversation_id: str) -> list[str]:
    items: Any = api.conversations.items.list(conversation_id, order="asc")
    return [item.content[0].text async for item in items]


async def test_a_conversation_and_its_items_come_and_go(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER)) as api:
        made = await api.conversations.create(items=[said("a")], metadata={"topic": "x"})
        assert (made.id[:5], made.object, made.metadata) == (
            "conv_",
            "conversation",
            {"topic": "x"},
        )
        assert await api.conversations.retrieve(made.id) == made
        changed = await api.conversations.update(made.id, metadata={"topic": "y"})
        assert (changed.id, changed.metadata) == (made.id, {"topic": "y"})

        items = api.conversations.items
        added = await items.create(made.id, items=[said("b"), said("c")])
        assert (added.first_id, added.has_more) == (added.data[0].id, False)
        assert await texts_in(api, made.id) == ["a", "b", "c"]
        assert await items.retrieve(added.last_id, conversation_id=made.id) == added.data[-1]
        page = await items.list(made.id, limit=2)
        assert ([item.id for item in page.data], page.has_more) == (
            [item.id for item in added.data[::-1]],
            True,
        )
        assert (await items.delete(added.first_id, conversation_id=made.id)).id == made.id
        assert await texts_in(api, made.id) == ["a", "c"]
        with pytest.raises(openai.NotFoundError):
            await items.retrieve(added.first_id, conversation_id=made.id)

        gone = await api.conversations.delete(made.id)
        assert (gone.object, gone.deleted) == ("conversation.deleted", True)
        with pytest.raises(openai.NotFoundError, match="no conversation with id"):
            await api.conversations.retrieve(made.id)


async def test_responses_continue_a_conversation_and_add_to_it(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER)
    async with api_to(client) as api:
        made = await api.conversations.create(items=[said("a")])
        first = await api.responses.create(model="novels", input="b", conversation=made.id)
        assert first.conversation is not None
        assert first.conversation.id == made.id
        stream = await api.responses.create(
            model="novels", input="c", conversation={"id": made.id}, stream=True
        )
        assert [event.type async for event in stream][-1] == "response.completed"
        assert await texts_in(api, made.id) == ["a", "b", "It was a café…", "c", "It was a café…"]
        # nothing new: what is there already is responded to
        await api.conversations.items.create(made.id, items=[said("d")])
        await api.responses.create(model="novels", conversation=made.id)
    prompt = client.requests[-1].prompt
    assert isinstance(prompt, ChatPrompt)
    assert [message["content"] for message in prompt.messages] == [
        "a", "b", "It was a café…", "c", "It was a café…", "d"
    ]  # fmt: skip


async def test_what_failed_is_not_said(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER[:2], WorkerLost("gone"))) as api:
        made = await api.conversations.create()
        stream = await api.responses.create(
            model="novels", input="b", conversation=made.id, stream=True
        )
        assert [event.type async for event in stream][-1] == "response.failed"
        assert await texts_in(api, made.id) == []


async def test_what_does_not_agree_is_refused(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER)
    async with api_to(client) as api:
        made = await api.conversations.create()
        for fields, param in (
            ({"input": "b", "previous_response_id": "resp_1"}, "conversation"),
            ({"input": "b", "store": False}, "store"),
            ({}, "input"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await api.responses.create(  # type: ignore[call-overload]
                    model="novels", conversation=made.id, **fields
                )
            assert refused.value.param == param
        with pytest.raises(openai.NotFoundError):
            await api.responses.create(model="novels", input="b", conversation="conv_unknown")
        with pytest.raises(openai.BadRequestError) as refused:
            await api.conversations.items.create(made.id, items=[said("x")] * 21)
        assert refused.value.param == "items"
    assert client.requests == []


async def test_another_caller_sees_nothing(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER)) as api:
        made = await api.conversations.create(items=[said("a")])
        other = api.with_options(api_key=KEYS[1])
        for attempt in (
            other.conversations.retrieve(made.id),
            other.conversations.delete(made.id),
            other.conversations.items.list(made.id),
            other.conversations.items.create(made.id, items=[said("b")]),
            other.responses.create(model="novels", input="b", conversation=made.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
        assert await texts_in(api, made.id) == ["a"]
