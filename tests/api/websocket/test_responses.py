"""WS /v1/responses: OpenAI's WebSocket mode, event by event, and with its client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from appliance.api.app import create_app
from appliance.api.websocket import conversations, responses
from appliance.errors import QueueFull, WorkerLost
from appliance.protocol.events import Finished, FinishReason, Started, Usage
from appliance.protocol.requests import ChatPrompt
from tests.api.function_calls import CALLS
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around
from tests.api.serving import Serve
from tests.api.websocket.asgi_socket import AsgiSocket, connected

PATH = "/v1/responses"
CREATE = {"type": "response.create", "model": "novels", "input": "Hello"}
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}
ENDS = ("response.completed", "response.incomplete", "response.failed", "error")


def app_around(client: ScriptedClient, **options: Any) -> Any:
    return create_app(gateway_around(client), **options)


async def turn(socket: AsgiSocket, event: Any) -> list[Any]:
    """The events of a turn when no other one is in progress."""
    socket.say(event)
    heard = [await socket.hear()]
    while heard[-1]["type"] not in ENDS:
        heard.append(await socket.hear())
    return heard


def prompt_of(client: ScriptedClient, at: int = -1) -> ChatPrompt:
    prompt = client.requests[at].prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt


async def test_a_turn_has_the_events_of_the_stream_over_http() -> None:
    async with connected(app_around(ScriptedClient(*ANSWER)), PATH) as socket:
        events = await turn(socket, {**CREATE, "stream": True})
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in events] == [*range(10)]
    assert all("stream_id" not in event for event in events)
    assert [event.get("request_id") for event in events] == ["socket.1", *[None] * 9]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "It was a café…"


async def test_the_next_turn_sends_only_what_is_new() -> None:
    client = ScriptedClient(*ANSWER)
    async with connected(app_around(client), PATH) as socket:
        first = (await turn(socket, {**CREATE, "instructions": "Be kind."}))[-1]["response"]
        second = await turn(
            socket,
            {
                "type": "response.create",
                "previous_response_id": first["id"],
                "input": [{"role": "user", "content": "And then?"}],
            },
        )
    assert prompt_of(client).messages == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "It was a café…"},
        {"role": "user", "content": "And then?"},
    ]
    assert {event["response"]["previous_response_id"] for event in (second[0], second[-1])} == {
        first["id"]
    }


async def test_a_conversation_goes_on_for_more_than_two_turns() -> None:
    client = ScriptedClient(*ANSWER)
    async with connected(app_around(client), PATH) as socket:
        known: dict[str, str] = {}
        for text in "abc":
            [*_, end] = await turn(socket, {**CREATE, **known, "input": text})
            known = {"previous_response_id": end["response"]["id"]}
    assert [message["content"] for message in prompt_of(client).messages] == [
        "a", "It was a café…", "b", "It was a café…", "c"
    ]  # fmt: skip


async def test_calls_and_their_results_go_on_as_well() -> None:
    client = ScriptedClient(*CALLS)
    async with connected(app_around(client), PATH) as socket:
        first = (await turn(socket, {**CREATE, "tools": [LOOK]}))[-1]["response"]
        results = [
            {"type": "function_call_output", "call_id": name, "output": "seen"}
            for name in ("call_1", "call_2")
        ]
        await turn(socket, {**CREATE, "previous_response_id": first["id"], "input": results})
    messages = prompt_of(client).messages
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["reasoning_content"] == "Hm"
    assert len(messages[1]["tool_calls"]) == 2


async def test_a_response_that_is_not_known_is_refused_as_openai_does() -> None:
    client = ScriptedClient(*ANSWER)
    async with connected(app_around(client), PATH) as socket:
        first, second = [(await turn(socket, CREATE))[-1]["response"]["id"] for _ in range(2)]
        for unknown in ("resp_unknown", first):  # the second has taken the first one's place
            [error] = await turn(socket, {**CREATE, "previous_response_id": unknown})
            assert (error["type"], error["status"]) == ("error", 400)
            assert error["error"]["code"] == "previous_response_not_found"
            assert error["error"]["param"] == "previous_response_id"
        assert (await turn(socket, {**CREATE, "previous_response_id": second}))[-1][
            "type"
        ] == "response.completed"
    assert len(client.requests) == 3


async def test_another_connection_knows_nothing_of_it() -> None:
    app = app_around(ScriptedClient(*ANSWER))
    async with connected(app, PATH) as socket:
        known = (await turn(socket, CREATE))[-1]["response"]["id"]
    async with connected(app, PATH) as socket:
        [error] = await turn(socket, {**CREATE, "previous_response_id": known})
        assert error["error"]["code"] == "previous_response_not_found"


async def test_a_conversation_that_is_too_large_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversations, "MAX_BYTES", 400)
    async with connected(app_around(ScriptedClient(*ANSWER)), PATH) as socket:
        small = (await turn(socket, CREATE))[-1]["response"]["id"]
        assert len(await turn(socket, {**CREATE, "previous_response_id": small})) == 1 + 9
        large = (await turn(socket, {**CREATE, "input": "x" * 400}))[-1]["response"]["id"]
        [error] = await turn(socket, {**CREATE, "previous_response_id": large})
        assert error["error"]["code"] == "previous_response_not_found"


async def test_lanes_run_side_by_side_and_each_in_order() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:1], gate, *ANSWER[1:])
    async with connected(app_around(client), PATH) as socket:
        for lane in ("a", "a", "b", None):
            named = {} if lane is None else {"stream_id": lane}
            socket.say({**CREATE, **named})
        heard = [await socket.hear() for _ in range(6)]  # two of each lane's first
        assert {event.get("stream_id") for event in heard} == {"a", "b", None}
        assert len(client.requests) == 3
        gate.set()
        heard += [await socket.hear() for _ in range(4 * 10 - 6)]
    assert len(client.requests) == 4
    numbers = [event["sequence_number"] for event in heard if event.get("stream_id") == "a"]
    assert numbers == [*range(10), *range(10)]


async def test_another_lane_may_go_on_from_a_response() -> None:
    client = ScriptedClient(*ANSWER)
    async with connected(app_around(client), PATH) as socket:
        known = (await turn(socket, {**CREATE, "stream_id": "a"}))[-1]["response"]["id"]
        fork = {**CREATE, "stream_id": "b", "previous_response_id": known}
        assert (await turn(socket, fork))[-1]["stream_id"] == "b"
        assert len(prompt_of(client).messages) == 3
        # and the first one still knows it
        again = {**CREATE, "stream_id": "a", "previous_response_id": known}
        assert (await turn(socket, again))[-1]["type"] == "response.completed"


async def test_a_warm_up_computes_the_prompt_and_can_be_gone_on_from() -> None:
    end = Finished(
        request_id=1,
        reason=FinishReason.LENGTH,
        usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=0),
    )
    client = ScriptedClient(Started(1, 5), end)
    async with connected(app_around(client), PATH) as socket:
        warm = {**CREATE, "generate": False, "instructions": "Be kind.", "input": []}
        events = await turn(socket, warm)
        assert [event["type"] for event in events] == [
            "response.created", "response.in_progress", "response.completed"
        ]  # fmt: skip
        assert client.requests[0].max_tokens == 0
        assert prompt_of(client).messages[0] == {"role": "system", "content": "Be kind."}
        response = events[-1]["response"]
        assert (response["output"], response["status"]) == ([], "completed")
        await turn(socket, {**CREATE, "previous_response_id": response["id"]})
    assert prompt_of(client).messages == [{"role": "user", "content": "Hello"}]
    assert client.requests[1].max_tokens is None


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("7", "invalid_value", None),
        ({"input": "Hello"}, "invalid_value", "type"),
        ({"type": "response.steer", "input": "x"}, "invalid_value", "type"),
        ({"type": "response.create"}, "missing_required_parameter", "input"),
        ({**CREATE, "temperature": 9}, "invalid_value", "temperature"),
        ({**CREATE, "background": True}, "invalid_request", "background"),
        ({**CREATE, "conversation": "conv_1"}, "invalid_request", "conversation"),
        ({**CREATE, "previous_response_id": 7}, "invalid_value", "previous_response_id"),
        ({**CREATE, "stream_id": ""}, "invalid_stream_id", "stream_id"),
        ({**CREATE, "stream_id": 7}, "invalid_stream_id", "stream_id"),
        ({**CREATE, "model": "other"}, "model_not_found", "model"),
    ],
)
async def test_what_is_not_taken_is_an_error_event(
    event: Any, code: str, param: str | None
) -> None:
    async with connected(app_around(ScriptedClient(*ANSWER)), PATH) as socket:
        [error] = await turn(socket, event)
        assert (error["error"]["code"], error["error"]["param"]) == (code, param), error
        assert set(error) - {"stream_id"} == {"type", "status", "error", "request_id"}
        assert (await turn(socket, CREATE))[-1]["type"] == "response.completed"


async def test_a_refusal_and_a_failure_have_their_lane() -> None:
    named = {**CREATE, "stream_id": "a"}
    async with connected(app_around(ScriptedClient(QueueFull("Full."))), PATH) as socket:
        [error] = await turn(socket, named)
        assert (error["status"], error["stream_id"]) == (429, "a")
    broken = ScriptedClient(*ANSWER[:2], WorkerLost("It died."))
    async with connected(app_around(broken), PATH) as socket:
        failed = (await turn(socket, named))[-1]
        assert (failed["type"], failed["stream_id"]) == ("response.failed", "a")
        [error] = await turn(socket, {**named, "previous_response_id": failed["response"]["id"]})
        assert error["error"]["code"] == "previous_response_not_found"


async def test_lanes_and_turns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_LANES", 2)
    async with connected(app_around(ScriptedClient(*ANSWER)), PATH) as socket:
        for lane in ("a", "b", "a"):
            await turn(socket, {**CREATE, "stream_id": lane})
        [error] = await turn(socket, {**CREATE, "stream_id": "c"})
        assert error["error"]["code"] == "websocket_stream_limit_reached"
    monkeypatch.setattr(responses, "MAX_TURNS", 2)
    async with connected(app_around(ScriptedClient(asyncio.Event())), PATH) as socket:
        for _ in range(3):
            socket.say(CREATE)
        assert (await socket.hear())["status"] == 429


async def test_what_is_left_out_is_named_in_the_first_event() -> None:
    steps = (Started(1, 5, ["#/a"]), *ANSWER[1:])
    async with connected(app_around(ScriptedClient(*steps)), PATH) as socket:
        first, *rest = await turn(socket, {**CREATE, "colour": "red"})
    assert (first["ignored_parameters"], first["unenforced_schema"]) == ("colour", "#/a")
    assert not any("ignored_parameters" in event for event in rest)


async def test_openais_client_holds_a_conversation(serve: Serve) -> None:
    client = ScriptedClient(*ANSWER)
    url = serve(create_app(gateway_around(client, ["secret"])))
    texts = []
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0) as api,
        api.responses.connect() as connection,
    ):
        previous: dict[str, Any] = {}
        for said in ("Hello", "And then?"):
            await connection.response.create(model="novels", input=said, **previous)
            async for event in connection:
                if event.type == "response.output_text.delta":
                    texts.append(event.delta)
                if event.type == "response.completed":
                    previous = {"previous_response_id": event.response.id}
                    break
        await connection.response.create(model="novels", input="x", previous_response_id="gone")
        error = await connection.recv()
        assert error.type == "error"
        assert error.error.code == "previous_response_not_found"
    assert "".join(texts) == "It was a café…" * 2
    assert [message["content"] for message in prompt_of(client).messages] == [
        "Hello",
        "It was a café…",
        "And then?",
    ]
