"""What clients send back of earlier answers and label on the way is taken; what they
leave out is read as nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from appliance.protocol.requests import ChatPrompt
from tests.api.answered_requests import HI, answered

CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}


async def messages_read(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    _, request = await answered("chat/completions", {"messages": [HI, *messages]})
    assert isinstance(request.prompt, ChatPrompt)
    return request.prompt.messages[1:]


async def items_read(*items: dict[str, Any]) -> list[dict[str, Any]]:
    _, request = await answered("responses", {"input": [HI, *items]})
    assert isinstance(request.prompt, ChatPrompt)
    return request.prompt.messages[1:]


@pytest.mark.parametrize(
    "labels",
    [
        {"refusal": None, "annotations": None, "audio": None, "tool_calls": None},
        {"annotations": []},
        {"id": 1947, "metadata": {"a": [1]}, "provider_specific_fields": {"refusal": None}},
        {"cache_control": {"type": "ephemeral"}, "reasoning_details": [{"type": "text"}]},
        {"reasoning": {"effort": "low"}, "refusal": ""},
    ],
)
async def test_labels_of_messages_and_parts_are_dropped(labels: dict[str, Any]) -> None:
    answer = {"role": "assistant", "content": "x", **labels}
    parts = {"role": "user", "content": [{"type": "text", "text": "y", **labels}]}
    assert await messages_read(answer, parts) == [
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "y"},
    ]
    assert await items_read(answer, parts) == [
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "y"},
    ]


@pytest.mark.parametrize("nothing", [{"content": None}, {}, {"content": []}, {"content": ""}])
async def test_a_turn_without_content_is_an_empty_text(nothing: dict[str, Any]) -> None:
    empty = {"role": "assistant", "content": ""}
    assert await messages_read({"role": "assistant", **nothing}, HI) == [empty, HI]
    assert await items_read({"role": "assistant", **nothing}, HI) == [empty, HI]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
async def test_reasoning_is_read_under_any_server_s_name(name: str) -> None:
    (answer, _) = await messages_read({"role": "assistant", "content": "x", name: "why"}, HI)
    assert answer["reasoning_content"] == "why"


async def test_a_refusal_is_what_the_assistant_said() -> None:
    part = {"type": "refusal", "refusal": "No."}
    assert await messages_read(
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [part]},
        HI,
    ) == [{"role": "assistant", "content": "No."}] * 2 + [HI]


@pytest.mark.parametrize("nothing", [{"content": None}, {}, {"content": []}])
async def test_a_tool_may_return_nothing(nothing: dict[str, Any]) -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", **CALL}]}
    result = {"role": "tool", "tool_call_id": "a", **nothing}
    assert (await messages_read(calls, result))[1] == {
        "role": "tool",
        "content": "",
        "tool_call_id": "a",
    }
    called = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "a", "output": None}
    assert (await items_read(called, output))[1]["content"] == ""


@pytest.mark.parametrize(
    ("sent", "read"),
    [({"x": [1, None]}, '{"x":[1,null]}'), (None, "{}"), ({}, "{}"), ('{"x": 1}', '{"x": 1}')],
)
async def test_arguments_of_an_earlier_call_may_be_an_object(sent: Any, read: str) -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": sent}, "index": "0", "extra": 1}
    (turn,) = await messages_read({"role": "assistant", "tool_calls": [call]})
    assert turn["content"] is None
    assert turn["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": read}}
    ]
    item = {"type": "function_call", "call_id": "a", "name": "f", "arguments": sent}
    (turn,) = await items_read(item)
    assert turn["tool_calls"][0]["function"]["arguments"] == read


async def test_results_without_an_id_belong_to_the_calls_before_them_in_order() -> None:
    turn = {"role": "assistant", "tool_calls": [CALL, {"id": "own", **CALL}, CALL]}
    read = await messages_read(
        turn,
        {"role": "tool", "content": "1"},
        {"role": "tool", "content": "2", "tool_call_id": "own"},
        {"role": "tool", "content": "3"},
        turn,
        {"role": "tool", "content": "4"},
    )
    calls = [call["id"] for call in read[0]["tool_calls"]]
    assert calls == ["call00001", "own", "call00003"]
    assert [one["tool_call_id"] for one in read[1:4]] == calls
    assert read[5]["tool_call_id"] == "call00004"


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
async def test_a_mode_of_calling_may_be_an_object(mode: str) -> None:
    nested = {"messages": [HI], "tools": [{"function": {"name": "fs/read:v1.2-x"}}]}
    flat = {"input": "hi", "tools": [{"type": "function", "name": "fs/read:v1.2-x"}]}
    for path, body in (("chat/completions", nested), ("responses", flat)):
        for sent in (mode, {"type": mode}):
            _, request = await answered(path, {**body, "tool_choice": sent})
            assert isinstance(request.prompt, ChatPrompt)
            assert bool(request.prompt.tools) == (mode != "none")
            assert request.tool_calls is not None
            assert request.tool_calls.is_required == (mode == "required")


async def test_strict_may_stand_beside_its_function() -> None:
    for tool, is_strict in [
        ({"strict": True, "function": {"name": "f"}}, True),
        ({"strict": True, "function": {"name": "f", "strict": False}}, False),
        ({"function": {"name": "f", "strict": True}}, True),
        ({"function": {"name": "f"}, "cache_control": {}}, False),
    ]:
        _, request = await answered("chat/completions", {"messages": [HI], "tools": [tool]})
        assert request.tool_calls is not None
        assert request.tool_calls.is_strict == is_strict


async def test_whole_numbers_may_be_written_as_floats() -> None:
    _, request = await answered(
        "chat/completions", {"messages": [HI], "max_tokens": 100.0, "seed": 1.0, "top_k": 3.0}
    )
    assert (request.max_tokens, request.sampling.seed, request.sampling.top_k) == (100, 1, 3)
    assert type(request.max_tokens) is int
    _, request = await answered("completions", {"prompt": [1, 2.0], "max_tokens": 1})
    assert request.prompt.tokens == [1, 2]  # type: ignore[union-attr] # a prompt of tokens


async def test_minus_one_token_is_no_limit() -> None:
    chat: dict[str, Any] = {"messages": [HI]}
    for path, body, names in [
        ("chat/completions", chat, ("max_tokens", "max_completion_tokens")),
        ("completions", {"prompt": "a"}, ("max_tokens",)),
        ("responses", {"input": "hi"}, ("max_output_tokens",)),
    ]:
        for name in names:
            for sent in (-1, -1.0):
                _, request = await answered(path, {**body, name: sent})
                assert request.max_tokens is None


async def test_a_stop_that_is_empty_stops_nothing() -> None:
    _, request = await answered("chat/completions", {"messages": [HI], "stop": ["", "x"]})
    assert request.stop == ["x"]
    _, request = await answered("completions", {"prompt": "a", "stop": ""})
    assert request.stop == []


async def test_hints_of_responses_are_taken_and_said_as_they_are() -> None:
    hints = {"truncation": "auto", "store": True, "service_tier": "flex", "max_tool_calls": 3}
    labels = {"metadata": {"a": 1}, "user": 7, "include": ["web_search_call.action.sources"]}
    nested = {"text": {"verbosity": "low"}, "reasoning": {"summary": "detailed", "x": 1}}
    response, _ = await answered("responses", {"input": "hi", **hints, **labels, **nested})
    said = response.json()
    assert (said["truncation"], said["store"], said["service_tier"]) == (
        "disabled",
        False,
        "default",
    )
    assert (said["metadata"], said["user"]) == ({"a": 1}, None)
