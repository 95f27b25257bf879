"""WS /v1/stream: many requests on one connection, message by message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.api.app import create_app
from appliance.api.websocket import stream
from appliance.errors import QueueFull, WorkerLost
from appliance.protocol.events import Delta, Started
from tests.api.function_calls import CALLS, LOOK, NOTE
from tests.api.scripted_client import ANSWER, ANSWER_USAGE, ScriptedClient, gateway_around
from tests.api.websocket.asgi_socket import PATIENCE_S, connected

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"type": "chat", "id": "a", "body": {"messages": HELLO}}


def app_around(client: ScriptedClient, **options: Any) -> Any:
    return create_app(gateway_around(client), **options)


async def told(client: ScriptedClient, message: Any, **options: Any) -> list[Any]:
    """Everything that is said about one request."""
    async with connected(app_around(client, **options)) as socket:
        socket.say(message)
        return await socket.hear_to_end(message["id"])


def without(record: Any, *names: str) -> Any:
    return {name: value for name, value in record.items() if name not in names}


async def test_a_chat_is_told_token_by_token() -> None:
    messages = await told(ScriptedClient(*ANSWER), CHAT)
    assert [without(message, "data") for message in messages] == [
        {"id": "a", "type": "start", "index": 0, "request_id": "socket.1"},
        {"id": "a", "type": "token", "index": 1},
        {"id": "a", "type": "token", "index": 2},
        {"id": "a", "type": "token", "index": 3},
        {"id": "a", "type": "record", "index": 4},
        {"id": "a", "type": "done", "index": 5},
    ]
    role, first, second, end = [message["data"] for message in messages[1:5]]
    assert {record["object"] for record in (role, first, second, end)} == {"chat.completion.chunk"}
    deltas = [record["choices"][0]["delta"] for record in (role, first, second, end)]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "It was"},
        {"content": " a café…"},
        {},
    ]
    assert end["choices"][0]["finish_reason"] == "stop"


async def test_calls_have_a_label_of_their_own_and_reasoning_is_text() -> None:
    body = {"messages": HELLO, "tools": [LOOK, NOTE]}
    messages = await told(ScriptedClient(*CALLS), {**CHAT, "body": body})
    assert [message["type"] for message in messages] == [
        "start", *["token"] * 3, *["tool"] * 5, "record", "done"
    ]  # fmt: skip
    calls = [message["data"]["choices"][0]["delta"]["tool_calls"][0] for message in messages[4:9]]
    assert [call["index"] for call in calls] == [0, 0, 0, 1, 1]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a": 1}{}'


async def test_a_completion_and_its_usage() -> None:
    body = {"prompt": "Once", "stream_options": {"include_usage": True}}
    messages = await told(ScriptedClient(*ANSWER), {"type": "completion", "id": 7, "body": body})
    assert [(message["id"], message["type"]) for message in messages] == [
        (7, "start"), (7, "token"), (7, "token"), (7, "record"), (7, "record"), (7, "done")
    ]  # fmt: skip
    texts = [message["data"]["choices"][0]["text"] for message in messages[1:3]]
    assert texts == ["It was", " a café…"]
    assert messages[4]["data"]["usage"] == ANSWER_USAGE


async def test_a_response_has_its_own_events() -> None:
    messages = await told(
        ScriptedClient(*ANSWER), {"type": "response", "id": "r", "body": {"input": "Hello"}}
    )
    kinds = [(message["type"], message["data"]["type"]) for message in messages[1:-1]]
    assert kinds == [
        ("record", "response.created"),
        ("record", "response.in_progress"),
        ("token", "response.output_item.added"),
        ("token", "response.content_part.added"),
        ("token", "response.output_text.delta"),
        ("token", "response.output_text.delta"),
        ("record", "response.output_text.done"),
        ("record", "response.content_part.done"),
        ("record", "response.output_item.done"),
        ("record", "response.completed"),
    ]


async def test_in_one_piece_if_asked_for() -> None:
    body = {"messages": HELLO, "stream": False}
    start, whole, done = await told(ScriptedClient(*ANSWER), {**CHAT, "body": body}, resume_s=60)
    assert start == {"id": "a", "type": "start", "index": 0, "request_id": "socket.1"}
    assert (whole["type"], whole["index"]) == ("record", 1)
    assert whole["data"]["choices"][0]["message"]["content"] == "It was a café…"
    assert done == {"id": "a", "type": "done", "index": 2}


async def test_the_best_of_several_needs_one_piece_as_over_http() -> None:
    body = {"prompt": "Once", "best_of": 2}
    message = {"type": "completion", "id": "a", "body": body}
    [error] = await told(ScriptedClient(*ANSWER), message)
    assert (error["status"], error["data"]["error"]["param"]) == (400, "best_of")
    whole = {**message, "body": {**body, "stream": False}}
    assert [each["type"] for each in await told(ScriptedClient(*ANSWER), whole)] == [
        "start", "record", "done"
    ]  # fmt: skip


async def test_requests_run_side_by_side_and_are_told_apart() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    async with connected(app_around(client)) as socket:
        for name in ("a", "b", "c"):
            socket.say({**CHAT, "id": name})
        heard = [await socket.hear() for _ in range(9)]  # start, role and one token of each
        assert len(client.requests) == 3
        gate.set()
        heard += await socket.hear_to_end("a", "b", "c")
    for name in ("a", "b", "c"):
        own = [message for message in heard if message["id"] == name]
        assert [message["index"] for message in own] == [0, 1, 2, 3, 4, 5]
        assert own[-1]["type"] == "done"


async def test_a_cancelled_request_ends_and_others_go_on() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    gateway = gateway_around(client)
    async with connected(create_app(gateway, resume_s=60)) as socket:
        socket.say(CHAT)
        socket.say({**CHAT, "id": "b"})
        for _ in range(6):
            await socket.hear()
        socket.say({"type": "cancel", "id": "a"})
        assert await socket.hear() == {"id": "a", "type": "done", "index": 3, "cancelled": True}
        assert gateway.num_requests == 1
        assert len(client.forgotten) == 1
        socket.say({"type": "cancel", "id": "a"})  # it has ended: nothing happens
        gate.set()
        rest = await socket.hear_to_end("b")
        assert [message["type"] for message in rest] == ["token", "record", "done"]
        socket.say(CHAT)  # the id is free again
        assert len(await socket.hear_to_end("a")) == 6


async def test_a_request_that_still_waits_can_be_cancelled() -> None:
    client = ScriptedClient(asyncio.Event())
    gateway = gateway_around(client)
    async with connected(create_app(gateway, resume_s=60)) as socket:
        socket.say(CHAT)
        await asyncio.wait_for(client.reached_wait.wait(), PATIENCE_S)
        socket.say({"type": "cancel", "id": "a"})
        assert await socket.hear() == {"id": "a", "type": "done", "cancelled": True}
        assert gateway.num_requests == 0


async def test_a_ping_is_answered_while_others_stream() -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event())
    async with connected(app_around(client)) as socket:
        socket.say(CHAT)
        for _ in range(3):
            await socket.hear()
        socket.say({"type": "ping", "id": "p"})
        socket.say('{"type": "ping"}')
        assert await socket.hear() == {"id": "p", "type": "pong"}
        assert await socket.hear() == {"id": None, "type": "pong"}


async def test_when_the_connection_ends_all_requests_end() -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event())
    gateway = gateway_around(client)
    async with connected(create_app(gateway)) as socket:
        socket.say(CHAT)
        socket.say({**CHAT, "id": "b"})
        for _ in range(6):
            await socket.hear()
        assert gateway.num_requests == 2
    assert gateway.num_requests == 0


async def test_what_is_refused_is_told_with_its_status_and_the_connection_goes_on() -> None:
    client = ScriptedClient(QueueFull("Full."))
    async with connected(app_around(client)) as socket:
        socket.say(CHAT)
        assert await socket.hear() == {
            "id": "a",
            "type": "error",
            "request_id": "socket.1",
            "status": 429,
            "data": {
                "error": {
                    "message": "Full.",
                    "type": "rate_limit_error",
                    "param": None,
                    "code": "queue_full",
                }
            },
        }
        socket.say({"type": "ping"})
        assert (await socket.hear())["type"] == "pong"


async def test_what_breaks_later_ends_its_stream() -> None:
    messages = await told(ScriptedClient(*ANSWER[:2], WorkerLost("It died.")), CHAT)
    assert [message["type"] for message in messages] == ["start", "token", "token", "error"]
    assert (messages[-1]["status"], messages[-1]["index"]) == (503, 3)
    assert messages[-1]["data"]["error"]["code"] == "worker_lost"


async def test_what_nobody_foresaw_is_told_without_its_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [error] = await told(ScriptedClient(ZeroDivisionError("secret")), CHAT)
    assert error["status"] == 500
    assert "secret" not in str(error)
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("message", "told_id", "code", "param"),
    [
        ("{", None, "invalid_json", None),
        ("[]", None, "invalid_value", None),
        ("{}", None, "invalid_value", "type"),
        ({"type": "sing", "id": "a"}, "a", "invalid_value", "type"),
        ({"type": ["chat"], "id": "a"}, "a", "invalid_value", "type"),
        ({"type": "chat", "body": {}}, None, "missing_required_parameter", "id"),
        ({"type": "chat", "id": "", "body": {}}, None, "invalid_value", "id"),
        ({"type": "chat", "id": "x" * 129, "body": {}}, None, "invalid_value", "id"),
        ({"type": "chat", "id": True, "body": {}}, None, "invalid_value", "id"),
        ({"type": "chat", "id": "a"}, "a", "missing_required_parameter", "body"),
        ({"type": "chat", "id": "a", "body": []}, "a", "invalid_value", "body"),
        ({"type": "chat", "id": "a", "body": {}, "x": 1}, "a", "unknown_parameter", "x"),
        ({"type": "chat", "id": "a", "body": {}}, "a", "missing_required_parameter", "messages"),
        (
            {"type": "completion", "id": "a", "body": {"prompt": "x", "n": 17}},
            "a",
            "invalid_value",
            "n",
        ),
        (
            {"type": "chat", "id": "a", "body": {"messages": HELLO, "model": "other"}},
            "a",
            "model_not_found",
            "model",
        ),
        ({"type": "resume", "id": "a", "stream": "x"}, "a", "missing_required_parameter", "after"),
        ({"type": "resume", "id": "a", "stream": "x", "after": -1}, "a", "invalid_value", "after"),
        ({"type": "resume", "id": "a", "stream": "x", "after": 1}, "a", "stream_gone", None),
    ],
)
async def test_a_message_that_is_not_taken_names_what_is_wrong(
    message: Any, told_id: str | None, code: str, param: str | None
) -> None:
    async with connected(app_around(ScriptedClient(*ANSWER), resume_s=60)) as socket:
        socket.say(message)
        answer = await socket.hear()
        assert (answer["type"], answer["id"]) == ("error", told_id), answer
        error = answer["data"]["error"]
        assert (error["code"], error["param"]) == (code, param), answer
        assert "body" not in error["message"] or param == "body"


async def test_messages_may_be_bytes() -> None:
    async with connected(app_around(ScriptedClient())) as socket:
        socket.say_bytes(b'{"type": "ping", "id": 1}')
        assert await socket.hear() == {"id": 1, "type": "pong"}


async def test_an_id_in_use_is_refused_without_ending_its_request() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    async with connected(app_around(client)) as socket:
        socket.say(CHAT)
        for _ in range(3):
            await socket.hear()
        socket.say(CHAT)
        refused = await socket.hear()
        assert (refused["id"], refused["data"]["error"]["code"]) == (None, "id_in_use")
        gate.set()
        assert (await socket.hear_to_end("a"))[-1]["type"] == "done"
    assert len(client.requests) == 1


async def test_only_so_many_requests_run_on_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_REQUESTS", 2)
    client = ScriptedClient(*ANSWER[:1], asyncio.Event())
    async with connected(app_around(client)) as socket:
        for name in ("a", "b"):
            socket.say({**CHAT, "id": name})
        for _ in range(2):
            await socket.hear()
        socket.say({**CHAT, "id": "c"})
        refused = await socket.hear()
        assert (refused["id"], refused["status"]) == ("c", 429)
        assert refused["request_id"] == "socket.3"
        socket.say({"type": "cancel", "id": "a"})
        assert (await socket.hear())["cancelled"]
        socket.say({**CHAT, "id": "c"})
        start = await socket.hear()
        assert start == {"id": "c", "type": "start", "index": 0, "request_id": "socket.4"}


async def test_what_is_left_out_is_named_at_the_start() -> None:
    steps = (Started(1, 5, ["#/a"]), *ANSWER[1:])
    body = {"messages": HELLO, "colour": "red"}
    start, *_ = await told(ScriptedClient(*steps), {**CHAT, "body": body})
    assert start == {
        "id": "a",
        "type": "start",
        "index": 0,
        "request_id": "socket.1",
        "ignored_parameters": "colour",
        "unenforced_schema": "#/a",
    }
    [error] = await told(ScriptedClient(*steps), {**CHAT, "body": body}, strict_parameters=True)
    assert error["data"]["error"]["code"] == "unknown_parameter"


async def test_a_client_that_takes_nothing_loses_its_connection_and_others_do_not() -> None:
    many = [Delta(request_id=1, text="x", num_tokens=1)] * 100
    client = ScriptedClient(Started(1, 5), *many, ANSWER[-1])
    gateway = gateway_around(client)
    app = create_app(gateway, client_timeout_s=0.2, resume_s=60)
    async with connected(app, room=4) as slow, connected(app) as quick:
        slow.say(CHAT)
        while slow.num_waiting < 4:
            await asyncio.sleep(0)
        quick.say(CHAT)
        assert len(await quick.hear_to_end("a")) == 104
        await asyncio.wait_for(_until_idle(gateway), PATIENCE_S)
        quick.say({"type": "ping"})
        assert (await quick.hear())["type"] == "pong"
        taken = [await slow.hear() for _ in range(4)]
        assert [message["index"] for message in taken] == [0, 1, 2, 3]
        # what it did not take is not lost
        quick.say({"type": "resume", "id": "b", "stream": taken[0]["stream"], "after": 3})
        rest = await quick.hear_to_end("b")
        assert [message["index"] for message in rest] == [*range(4, 104)]


async def _until_idle(gateway: Any) -> None:
    while gateway.num_requests:
        await asyncio.sleep(0)
