"""/v1/responses: its items and fields become the one internal request, and events
become its object and its stream.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.errors import WorkerLost
from appliance.protocol.events import (
    Delta,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Started,
    ToolCallPart,
    Usage,
)
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import ChatPrompt, GenerateRequest, Grammar, ToolCallRules
from tests.api.function_calls import CALLS
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

LOOK: dict[str, Any] = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object"},
    "strict": True,
}
IN, PART, ITEM = "response.output_text", "response.content_part", "response.output_item"


async def asked(**fields: Any) -> GenerateRequest:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post("/v1/responses", json={"input": "Hello", **fields})
    assert response.status_code == 200, response.text
    return client.requests[0]


async def answered(*steps: Any, **fields: Any) -> dict[str, Any]:
    async with http_around(ScriptedClient(*steps)) as http:
        answer: dict[str, Any] = (
            await http.post("/v1/responses", json={"input": "Hello", **fields})
        ).json()
    return answer


async def streamed(*steps: Any, **fields: Any) -> list[dict[str, Any]]:
    async with http_around(ScriptedClient(*steps)) as http:
        body = {"input": "Hello", "stream": True, **fields}
        frames = (await http.post("/v1/responses", json=body)).text.split("\n\n")
    events = []
    for frame in frames[:-1]:
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


async def test_a_text_is_a_user_s_message_behind_the_instructions() -> None:
    request = await asked(
        instructions="Be kind.", max_output_tokens=7, temperature=0.5, seed=3, top_k=5
    )
    assert request.prompt == ChatPrompt(
        messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    )
    assert request.max_tokens == 7
    assert (request.sampling.temperature, request.sampling.seed, request.sampling.top_k) == (
        0.5,
        3,
        5,
    )


async def test_items_become_messages_and_an_answer_s_items_one_turn() -> None:
    items = [
        {
            "role": "developer",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"role": "system", "content": "c"},
        {"type": "message", "role": "user", "content": "Look."},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Ok", "annotations": [], "logprobs": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "5"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "6"}],
        },
        {"type": "function_call", "call_id": "c3", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c3", "output": "7"},
        {"role": "user", "content": "And?"},
    ]
    call = {"type": "function", "function": {"name": "look", "arguments": "{}"}}
    request = await asked(input=items, instructions="Be kind.")
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.messages == [
        {"role": "system", "content": "Be kind.\n\na\nb\n\nc"},
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "content": "Ok",
            "reasoning_content": "Hm",
            "tool_calls": [{"id": "c1", **call}, {"id": "c2", **call}],
        },
        {"role": "tool", "content": "5", "tool_call_id": "c1"},
        {"role": "tool", "content": "6", "tool_call_id": "c2"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c3", **call}]},
        {"role": "tool", "content": "7", "tool_call_id": "c3"},
        {"role": "user", "content": "And?"},
    ]


async def test_functions_forms_and_reasoning() -> None:
    request = await asked(
        tools=[LOOK], tool_choice={"type": "function", "name": "look"}, reasoning={"effort": "low"}
    )
    assert request.tool_calls == ToolCallRules(
        is_required=True, only="look", several=False, is_strict=True, strict_names=["look"]
    )
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.reasoning_effort == "low"
    assert [tool["function"]["name"] for tool in request.prompt.tools or []] == ["look"]
    form = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    request = await asked(text={"format": form})
    assert request.grammar == Grammar(
        GrammarKind.JSON_SCHEMA, '{"type":"object"}', "text.format.schema", True
    )


def in_namespace(namespace: str, *names: str) -> dict[str, Any]:
    return {
        "type": "namespace",
        "name": namespace,
        "tools": [{"type": "function", "name": name} for name in names],
    }


async def test_functions_in_namespaces_are_shown_by_name_and_called_with_both() -> None:
    """As Codex sends them."""
    tools = [LOOK, in_namespace("one", "note", "read"), in_namespace("two", "read")]
    call = {
        "type": "function_call",
        "call_id": "c",
        "name": "read",
        "namespace": "two",
        "arguments": "{}",
    }
    history = [
        {"role": "user", "content": "Hi"},
        call,
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {**call, "namespace": "gone"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]
    request = await asked(tools=tools, input=history)
    assert isinstance(request.prompt, ChatPrompt)
    shown = [tool["function"]["name"] for tool in request.prompt.tools or []]
    assert shown == ["look", "note", "one__read", "two__read"]
    calls = [call for message in request.prompt.messages for call in message.get("tool_calls", [])]
    assert [call["function"]["name"] for call in calls] == ["two__read", "read"]
    steps = (
        Started(1, 5),
        Delta(
            request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(0, "{}", "call_1", "look")
        ),
        Delta(
            request_id=1, text="", num_tokens=1, tool_call=ToolCallPart(1, "{}", "call_2", "note")
        ),
        Delta(
            request_id=1,
            text="",
            num_tokens=1,
            tool_call=ToolCallPart(2, "{}", "call_3", "two__read"),
        ),
        Finished(
            request_id=1,
            reason=FinishReason.STOP,
            usage=Usage(num_prompt_tokens=5, num_cached_tokens=2, num_completion_tokens=9),
            has_tool_calls=True,
        ),
    )
    called = [(None, "look"), ("one", "note"), ("two", "read")]
    output = (await answered(*steps, tools=tools))["output"]
    assert [(item.get("namespace"), item["name"]) for item in output] == called
    added = [
        event["item"]
        for event in await streamed(*steps, tools=tools)
        if event["type"] == f"{ITEM}.added"
    ]
    assert [(item.get("namespace"), item["name"]) for item in added] == called


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [LOOK, LOOK]}, "tools"),
        ({"tools": [in_namespace("a", "x", "x")]}, "tools"),
        ({"tools": [in_namespace("a", *(f"x{index}" for index in range(100)))] * 2}, "tools"),
        (
            {"tools": [{**in_namespace("a"), "tools": [{"type": "custom", "name": "x"}]}]},
            "tools[0].tools[0].type",
        ),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"stop": "x"}, "stop"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"text": {"format": {"type": "json_object"}}, "ignore_eos": True}, "ignore_eos"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post("/v1/responses", json={"input": "Hello", **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
    assert client.requests == []


async def test_one_object() -> None:
    answer = await answered(
        *CALLS, tools=[LOOK], metadata={"a": "b"}, user="me", parallel_tool_calls=False
    )
    kinds = [item["type"] for item in answer["output"]]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    reasoning, message, first, second = answer["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm"}]
    assert message["content"] == [
        {"type": "output_text", "text": "Ok", "annotations": [], "logprobs": []}
    ]
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_1", "look", '{"a": 1}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("call_2", "note", "{}")
    assert (answer["object"], answer["status"], answer["error"], answer["store"]) == (
        "response",
        "completed",
        None,
        False,
    )
    assert (answer["metadata"], answer["user"], answer["parallel_tool_calls"]) == (
        {"a": "b"},
        "me",
        False,
    )
    assert answer["tools"][0]["name"] == "look"
    assert answer["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 14,
    }


async def test_what_ran_out_of_tokens_is_incomplete() -> None:
    steps = (
        Started(1, 5),
        Delta(request_id=1, text="It", num_tokens=1),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=1),
        ),
    )
    answer = await answered(*steps)
    assert (answer["status"], answer["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert answer["output"][0]["status"] == "incomplete"
    assert (await streamed(*steps))[-1]["type"] == "response.incomplete"


async def test_the_stream_s_events_in_order() -> None:
    events = await streamed(*CALLS)
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        f"{ITEM}.added",
        f"{PART}.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        f"{PART}.done",
        f"{ITEM}.done",
        f"{ITEM}.added",
        f"{PART}.added",
        f"{IN}.delta",
        f"{IN}.done",
        f"{PART}.done",
        f"{ITEM}.done",
        f"{ITEM}.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        f"{ITEM}.done",
        f"{ITEM}.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        f"{ITEM}.done",
        "response.completed",
    ]
    assert events[0]["response"]["output"] == []
    assert events[3]["part"] == {"type": "reasoning_text", "text": ""}
    assert (events[8]["item"]["content"], events[8]["output_index"]) == ([], 1)
    assert (events[10]["delta"], events[10]["item_id"]) == ("Ok", events[8]["item"]["id"])
    assert events[17]["arguments"] == '{"a": 1}'
    whole = await answered(*CALLS)
    last = events[-1]["response"]
    for item, other in zip(last["output"], whole["output"], strict=True):
        assert {**item, "id": ""} == {**other, "id": ""}
    assert last["usage"] == whole["usage"]


async def test_logprobs_are_with_their_text() -> None:
    token = SampledToken(LikelyToken(b"It", -0.5), [LikelyToken(b"It", -0.5)], 0)
    steps = (
        Started(1, 5),
        Delta(request_id=1, text="It", num_tokens=1, tokens=[token]),
        Finished(
            request_id=1,
            reason=FinishReason.STOP,
            usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=1),
        ),
    )
    events = await streamed(*steps, top_logprobs=1)
    (delta,) = [event for event in events if event["type"] == f"{IN}.delta"]
    assert delta["logprobs"][0]["token"] == "It"
    (added,) = [event["part"] for event in events if event["type"] == f"{PART}.added"]
    assert (added["text"], added["logprobs"]) == ("", [])
    answer = await answered(*steps, include=["message.output_text.logprobs"])
    assert answer["output"][0]["content"][0]["logprobs"][0]["logprob"] == -0.5


async def test_a_stream_that_breaks_says_so_in_its_own_words() -> None:
    events = await streamed(
        Started(1, 5), Delta(request_id=1, text="It", num_tokens=1), WorkerLost("The worker died.")
    )
    assert events[-1]["type"] == "response.failed"
    assert (events[-1]["response"]["status"], events[-1]["response"]["error"]["code"]) == (
        "failed",
        "worker_lost",
    )
