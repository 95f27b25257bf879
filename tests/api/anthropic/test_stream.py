"""A choice's events become Anthropic's, in their order, and one whole message."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.errors import MemoryPressure, WorkerLost
from appliance.protocol.events import (
    Delta,
    Finished,
    FinishReason,
    Started,
    ToolCallPart,
    Usage,
)
from tests.api.anthropic.talk import answered, post, streamed
from tests.api.function_calls import CALLS
from tests.api.scripted_client import ANSWER, ScriptedClient

THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
SIGNATURE = "YXBwbGlhbmNl"
USAGE = {
    "input_tokens": 3,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 2,
    "output_tokens": 5,
}


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def text(index: int, piece: str) -> dict[str, Any]:
    return delta(index, type="text_delta", text=piece)


def ended(reason: FinishReason = FinishReason.STOP, num_tokens: int = 9, **fields: Any) -> Finished:
    usage = Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=num_tokens)
    return Finished(request_id=1, reason=reason, usage=usage, **fields)


async def test_a_text() -> None:
    began, *events = await streamed(*ANSWER)
    message = began["message"]
    assert message.pop("id").startswith("msg_")
    assert began == {
        "type": "message_start",
        "message": {
            "type": "message",
            "role": "assistant",
            "model": "novels",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 5,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 0,
                "service_tier": "standard",
            },
        },
    }
    assert events == [
        {"type": "ping"},
        start(0, type="text", text=""),
        text(0, "It was"),
        text(0, " a café…"),
        stop(0),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": USAGE,
        },
        {"type": "message_stop"},
    ]


async def test_thinking_text_and_calls() -> None:
    events = await streamed(*CALLS, **THINKING)
    assert events[2:] == [
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Hm"),
        delta(0, type="signature_delta", signature=SIGNATURE),
        stop(0),
        start(1, type="text", text=""),
        text(1, "Ok"),
        stop(1),
        start(2, type="tool_use", id="call_1", name="look", input={}),
        delta(2, type="input_json_delta", partial_json='{"a": '),
        delta(2, type="input_json_delta", partial_json="1}"),
        stop(2),
        start(3, type="tool_use", id="call_2", name="note", input={}),
        delta(3, type="input_json_delta", partial_json="{}"),
        stop(3),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {**USAGE, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 3}},
        },
        {"type": "message_stop"},
    ]


async def test_the_same_in_one_message() -> None:
    message = await answered(*CALLS, **THINKING)
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": SIGNATURE},
        {"type": "text", "text": "Ok"},
        {"type": "tool_use", "id": "call_1", "name": "look", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_2", "name": "note", "input": {}},
    ]
    assert (message["type"], message["role"]) == ("message", "assistant")
    assert (message["stop_reason"], message["stop_sequence"]) == ("tool_use", None)
    assert message["usage"] == {
        **USAGE,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 3},
        "service_tier": "standard",
    }


async def test_who_does_not_ask_for_thinking_sees_none() -> None:
    assert [block["type"] for block in (await answered(*CALLS))["content"]] == [
        "text",
        "tool_use",
        "tool_use",
    ]
    assert (await streamed(*CALLS))[2] == start(0, type="text", text="")


async def test_thinking_may_be_omitted() -> None:
    omitted = {"thinking": {"type": "adaptive", "display": "omitted"}}
    empty = {"type": "thinking", "thinking": "", "signature": SIGNATURE}
    assert (await answered(*CALLS, **omitted))["content"][0] == empty
    assert (await streamed(*CALLS, **omitted))[2:5] == [
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="signature_delta", signature=SIGNATURE),
        stop(0),
    ]


@pytest.mark.parametrize(
    ("finished", "reason", "sequence"),
    [
        (ended(), "end_turn", None),
        (ended(stop_string="END"), "stop_sequence", "END"),
        (ended(has_tool_calls=True), "tool_use", None),
        (ended(FinishReason.LENGTH), "max_tokens", None),
        (ended(FinishReason.LENGTH, has_tool_calls=True), "max_tokens", None),
        (ended(FinishReason.LENGTH, num_tokens=8), "model_context_window_exceeded", None),
    ],
)
async def test_why_it_stopped(finished: Finished, reason: str, sequence: str | None) -> None:
    message = await answered(Started(1, 5), finished, max_tokens=9)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)
    assert message["content"] == []
    last = (await streamed(Started(1, 5), finished, max_tokens=9))[-2]
    assert last["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"n": 12345678901234567890}', '"input":{"n": 12345678901234567890}'),
        ("", '"input":{}'),
        ('{"a": ', '"input":{"INVALID_JSON":"{\\"a\\": "}'),
        ("[1]", '"input":{"INVALID_JSON":"[1]"}'),
    ],
)
async def test_input_is_an_object_whatever_the_model_wrote(arguments: str, shown: str) -> None:
    call = Delta(
        request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(0, arguments, "call_1", "look")
    )
    response = await post(ScriptedClient(Started(1, 5), call, ended(has_tool_calls=True)))
    assert shown in response.text


@pytest.mark.parametrize(
    ("error", "kind"),
    [(WorkerLost("It died."), "overloaded_error"), (RuntimeError("secret"), "api_error")],
)
async def test_a_stream_that_breaks_says_why(error: Exception, kind: str) -> None:
    response = await post(ScriptedClient(*ANSWER[:2], error), stream=True)
    last = response.text.split("\n\n")[-2]
    assert last.startswith('event: error\ndata: {"type":"error","error":{"type":"' + kind)
    assert f'"request_id":"{response.headers["request-id"]}"' in last
    assert "secret" not in last


async def test_a_refusal_before_the_stream_has_its_status() -> None:
    refusal = MemoryPressure.of(900, 100, "swapping")
    response = await post(ScriptedClient(refusal), stream=True)
    assert (response.status_code, response.headers["retry-after"]) == (503, "20")
    assert response.json()["error"] == {"type": "overloaded_error", "message": refusal.message}
