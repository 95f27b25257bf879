"""Responses by their ids, with OpenAI's client: continued, shown, listed, deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from appliance.api.app import create_app
from appliance.errors import WorkerLost
from appliance.gateway.stored_responses.database_store import DatabaseStore
from appliance.protocol.requests import ChatPrompt
from tests.api.function_calls import CALLS
from tests.api.scripted_client import (
    ANSWER,
    ScriptedClient,
    gateway_around,
    http_around,
    http_to,
)
from tests.api.stored_responses.conftest import KEYS, ApiTo
from tests.api.websocket.asgi_socket import connected

SAID = {"role": "user", "content": "Hello"}
ANSWERED = {"role": "assistant", "content": "It was a café…"}


def messages_of(client: ScriptedClient, at: int = -1) -> list[dict[str, Any]]:
    prompt = client.requests[at].prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


def text_of(item: Any) -> str:
    text: str = item.content[0].text
    return text


def is_stored(response: Any) -> bool:
    """The client's own record has no such field."""
    stored: bool = response.to_dict()["store"]
    return stored


async def test_the_next_request_sends_only_what_is_new(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER)
    async with api_to(client) as api:
        first = await api.responses.create(model="novels", input="Hello", instructions="Be kind.")
        second = await api.responses.create(
            model="novels", input="And then?", previous_response_id=first.id
        )
        third = await api.responses.create(
            model="novels",
            input="Go on.",
            instructions="Be brief.",
            previous_response_id=second.id,
            store=False,
        )
    assert messages_of(client, 0) == [{"role": "system", "content": "Be kind."}, SAID]
    # as at OpenAI, the instructions are each request's own
    then = {"role": "user", "content": "And then?"}
    assert messages_of(client, 1) == [SAID, ANSWERED, then]
    assert messages_of(client, 2) == [
        {"role": "system", "content": "Be brief."},
        *(SAID, ANSWERED, then, ANSWERED),
        {"role": "user", "content": "Go on."},
    ]
    assert second.previous_response_id == first.id
    assert [is_stored(each) for each in (first, second, third)] == [True, True, False]
    assert third.previous_response_id == second.id


async def test_reasoning_calls_and_their_results_are_continued(api_to: ApiTo) -> None:
    client = ScriptedClient(*CALLS)
    look: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    async with api_to(client) as api:
        first = await api.responses.create(model="novels", input="Hello", tools=[look])
        results: Any = [
            {"type": "function_call_output", "call_id": item.call_id, "output": "seen"}
            for item in first.output
            if item.type == "function_call"
        ]
        second = await api.responses.create(
            model="novels", input=results, tools=[look], previous_response_id=first.id
        )
        listed = await api.responses.input_items.list(second.id, order="asc")
    messages = messages_of(client)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["reasoning_content"] == "Hm"
    kinds = ["message", *(item.type for item in first.output), *["function_call_output"] * 2]
    assert [item.type for item in listed.data] == kinds


async def test_a_response_is_shown_as_it_was_answered(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER)) as api:
        whole = await api.responses.create(
            model="novels", input="Hello", metadata={"topic": "cafés"}
        )
        assert await api.responses.retrieve(whole.id) == whole
        stream = await api.responses.create(model="novels", input="Hello", stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        streamed = events[-1].response
        assert await api.responses.retrieve(streamed.id) == streamed
        with pytest.raises(openai.BadRequestError, match="events of this response") as refused:
            await api.responses.retrieve(streamed.id, stream=True)
        assert refused.value.param == "stream"


async def test_what_is_not_to_be_stored_is_not(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER)) as api:
        answer = await api.responses.create(model="novels", input="Hello", store=False)
        assert not is_stored(answer)
        with pytest.raises(openai.NotFoundError, match=f"no response with id '{answer.id}'"):
            await api.responses.retrieve(answer.id)
        with pytest.raises(openai.BadRequestError, match="not found") as refused:
            await api.responses.create(model="novels", input="And?", previous_response_id=answer.id)
        assert (refused.value.code, refused.value.param) == (
            "previous_response_not_found",
            "previous_response_id",
        )


async def test_one_that_broke_is_stored_as_failed(api_to: ApiTo) -> None:
    broken = ScriptedClient(*ANSWER[:2], WorkerLost("gone"))
    async with api_to(broken) as api:
        stream = await api.responses.create(model="novels", input="Hello", stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.failed"
        stored = await api.responses.retrieve(events[-1].response.id)
    assert stored.status == "failed"
    assert stored.error is not None
    assert (stored.error.code, stored.output_text) == ("worker_lost", "It was")


async def test_items_are_listed_page_by_page(api_to: ApiTo) -> None:
    said: Any = [{"role": "user", "content": text} for text in "abcde"]
    async with api_to(ScriptedClient(*ANSWER)) as api:
        answer = await api.responses.create(model="novels", input=said)
        items = api.responses.input_items
        page = await items.list(answer.id, limit=2)
        assert ([text_of(item) for item in page.data], page.has_more) == (["e", "d"], True)
        assert [text_of(item) async for item in items.list(answer.id, limit=2)] == [*"edcba"]
        last = page.data[-1].id
        page = await items.list(answer.id, order="asc", after=last)
        assert ([text_of(item) for item in page.data], page.has_more) == (["e"], False)
        assert (page.data[0].type, page.data[0].id[:4]) == ("message", "msg_")
        with pytest.raises(openai.BadRequestError) as refused:
            await items.list(answer.id, after="msg_unknown")
        assert refused.value.param == "after"
        with pytest.raises(openai.BadRequestError) as refused:
            await items.list(answer.id, limit=101)
        assert refused.value.param == "limit"


async def test_one_that_is_deleted_is_gone(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER)) as api:
        first = await api.responses.create(model="novels", input="Hello")
        second = await api.responses.create(
            model="novels", input="And?", previous_response_id=first.id
        )
        await api.responses.delete(first.id)
        for attempt in (api.responses.retrieve(first.id), api.responses.delete(first.id)):
            with pytest.raises(openai.NotFoundError):
                await attempt
        listed = await api.responses.input_items.list(second.id)
        assert [text_of(item) for item in listed.data] == ["And?", "It was a café…", "Hello"]


async def test_one_that_is_deleted_while_it_is_continued_stays_part_of_that(api_to: ApiTo) -> None:
    gate = asyncio.Event()
    async with api_to(ScriptedClient(*ANSWER)) as api:
        first = await api.responses.create(model="novels", input="Hello")
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    async with api_to(client) as api:
        stream = await api.responses.create(
            model="novels", input="And?", previous_response_id=first.id, stream=True
        )
        begun = await anext(stream)
        assert begun.type == "response.created"
        await api.responses.delete(first.id)
        gate.set()
        assert [event.type async for event in stream][-1] == "response.completed"
        listed = await api.responses.input_items.list(begun.response.id)
        assert [text_of(item) for item in listed.data] == ["And?", "It was a café…", "Hello"]


async def test_another_caller_sees_nothing(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER)) as api:
        mine = await api.responses.create(model="novels", input="Hello")
        other = api.with_options(api_key=KEYS[1])
        for attempt in (
            other.responses.retrieve(mine.id),
            other.responses.delete(mine.id),
            other.responses.cancel(mine.id),
            other.responses.input_items.list(mine.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await attempt
        with pytest.raises(openai.BadRequestError) as refused:
            await other.responses.create(model="novels", input="A", previous_response_id=mine.id)
        assert refused.value.code == "previous_response_not_found"
        assert (await api.responses.retrieve(mine.id)).id == mine.id


async def test_without_a_store_nothing_is_there_and_that_is_said() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        answer = (await http.post("/v1/responses", json={"input": "Hello", "store": True})).json()
        assert answer["store"] is False
        shown = await http.get(f"/v1/responses/{answer['id']}")
        assert (shown.status_code, shown.json()["error"]["code"]) == (404, "not_found")
        assert "--store-responses off" in shown.json()["error"]["message"]
        for fields, param in (
            ({"previous_response_id": answer["id"]}, "previous_response_id"),
            ({"conversation": "conv_1"}, "conversation"),
            ({"background": True}, "background"),
        ):
            refused = await http.post("/v1/responses", json={"input": "Hello", **fields})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_nothing_said_is_something_only_where_it_continues(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER)
    async with api_to(client) as api:
        first = await api.responses.create(model="novels", input="Hello")
        await api.responses.create(model="novels", previous_response_id=first.id)
        assert messages_of(client) == [SAID, ANSWERED]
        for nothing in ({}, {"input": []}):
            with pytest.raises(openai.BadRequestError) as refused:
                await api.responses.create(model="novels", **nothing)  # type: ignore[arg-type]
            assert refused.value.param == "input"


async def test_the_tokens_of_what_is_continued_are_counted(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER)
    async with api_to(client) as api:
        first = await api.responses.create(model="novels", input="Hello")
        await api.responses.input_tokens.count(
            model="novels", input="And?", previous_response_id=first.id
        )
    [question] = client.questions
    assert [message["role"] for message in question.prompt.messages] == [  # type: ignore[union-attr]
        "user", "assistant", "user"
    ]  # fmt: skip


# --- on a WebSocket -------------------------------------------------------------------


async def test_turns_on_a_websocket_are_stored_and_continued_from_anywhere(
    store: DatabaseStore,
) -> None:
    client = ScriptedClient(*ANSWER)
    app = create_app(gateway_around(client, responses=store))
    create = {"type": "response.create", "model": "novels", "input": "Hello"}

    async def turn(**fields: Any) -> dict[str, Any]:
        async with connected(app, "/v1/responses") as socket:
            socket.say({**create, **fields})
            while (event := await socket.hear())["type"] not in ("response.completed", "error"):
                pass
        response: dict[str, Any] = event["response"]
        return response

    first = await turn()
    second = await turn(input="And?", previous_response_id=first["id"])
    assert [message["content"] for message in messages_of(client)] == [
        "Hello", "It was a café…", "And?"
    ]  # fmt: skip
    unstored = await turn(input="No.", previous_response_id=second["id"], store=False)
    async with http_to(app) as http:
        shown = await http.get(f"/v1/responses/{second['id']}")
        assert shown.json() == second
        assert (await http.get(f"/v1/responses/{unstored['id']}")).status_code == 404


async def test_what_a_connection_alone_knows_is_stored_whole_once_it_is_to_be(
    store: DatabaseStore,
) -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), responses=store))
    create = {"type": "response.create", "model": "novels"}
    async with connected(app, "/v1/responses") as socket:
        known: dict[str, Any] = {}
        for fields in ({"input": "Hello", "store": False}, {"input": "And?"}):
            socket.say({**create, **fields, **known})
            while (event := await socket.hear())["type"] != "response.completed":
                pass
            known = {"previous_response_id": event["response"]["id"]}
    async with http_to(app) as http:
        listed = await http.get(f"/v1/responses/{event['response']['id']}/input_items")
    assert [item["content"][0]["text"] for item in listed.json()["data"]] == [
        "And?", "It was a café…", "Hello"
    ]  # fmt: skip
