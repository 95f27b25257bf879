"""Functions, calls and reasoning: from requests to the one internal one, and from
events to answers.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.protocol.requests import ChatPrompt, ToolCallRules
from tests.api.function_calls import CALLS, LOOK, NOTE, SHOWN_LOOK
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

HELLO = {"role": "user", "content": "Hello"}


async def asked(**fields: Any) -> ScriptedClient:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post("/v1/chat/completions", json={"messages": [HELLO], **fields})
    assert response.status_code == 200, response.text
    return client


@pytest.mark.parametrize(
    ("fields", "rules", "shown"),
    [
        ({}, ToolCallRules(), None),
        ({"tools": []}, ToolCallRules(), None),
        ({"tools": [LOOK]}, ToolCallRules(), ["look"]),
        ({"tools": [LOOK], "tool_choice": "auto"}, ToolCallRules(), ["look"]),
        ({"tools": [LOOK, NOTE], "tool_choice": "none"}, ToolCallRules(), None),
        ({"tools": [LOOK], "tool_choice": "required"}, ToolCallRules(is_required=True), ["look"]),
        ({"tools": [LOOK], "parallel_tool_calls": False}, ToolCallRules(several=False), ["look"]),
        (
            {"tools": [LOOK, NOTE]},
            ToolCallRules(is_strict=True, strict_names=["note"]),
            ["look", "note"],
        ),
        (
            {
                "tools": [LOOK, NOTE],
                "tool_choice": {"type": "function", "function": {"name": "look"}},
            },
            ToolCallRules(
                is_required=True,
                only="look",
                several=False,
                is_strict=True,
                strict_names=["note"],
            ),
            ["look", "note"],
        ),
        (
            {
                "tools": [LOOK, NOTE],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "look"}}],
                    },
                },
            },
            ToolCallRules(is_required=True),
            ["look"],
        ),
    ],
)
async def test_which_functions_are_shown_and_how_they_may_be_called(
    fields: dict[str, Any], rules: ToolCallRules, shown: list[str] | None
) -> None:
    (request,) = (await asked(**fields)).requests
    assert request.tool_calls == rules
    assert isinstance(request.prompt, ChatPrompt)
    tools = request.prompt.tools
    assert (None if tools is None else [tool["function"]["name"] for tool in tools]) == shown


async def test_a_function_is_shown_whole() -> None:
    (request,) = (await asked(tools=[LOOK])).requests
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.tools == [SHOWN_LOOK]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [LOOK, LOOK]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
        ),
        ({"tools": [LOOK], "tool_choice": "look"}, "tool_choice"),
        ({"tools": [LOOK], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}
                ]
            },
            "tools[0].function.parameters",
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "a", "parameters": {"x": "y" * (256 << 10)}},
                    }
                ]
            },
            "tools[0].function.parameters",
        ),
        ({"tools": [LOOK] * 129}, "tools"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_budget": -2}, "reasoning_budget"),
    ],
)
async def test_what_does_not_agree_is_refused(fields: dict[str, Any], param: str) -> None:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post("/v1/chat/completions", json={"messages": [HELLO], **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert client.requests == []


async def test_earlier_calls_and_their_results_reach_the_template() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"a": 1}'},
    }
    messages = [
        HELLO,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**call, "index": 0}],
            "reasoning_content": "Hm",
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "5"}]},
    ]
    (request,) = (await asked(messages=messages)).requests
    assert isinstance(request.prompt, ChatPrompt)
    assert request.prompt.messages == [
        HELLO,
        {"role": "assistant", "content": None, "reasoning_content": "Hm", "tool_calls": [call]},
        {"role": "tool", "content": "5", "tool_call_id": "call_1"},
    ]
    assert not request.prompt.continue_final_message


async def test_reasoning_is_asked_for() -> None:
    (request,) = (await asked(reasoning_effort="low", reasoning_budget=100)).requests
    assert isinstance(request.prompt, ChatPrompt)
    assert (request.prompt.reasoning_effort, request.max_reasoning_tokens) == ("low", 100)
    (request,) = (await asked(reasoning_budget=-1)).requests
    assert request.max_reasoning_tokens is None


async def test_calls_and_reasoning_in_one_piece() -> None:
    async with http_around(ScriptedClient(*CALLS)) as http:
        answer = (
            await http.post("/v1/chat/completions", json={"messages": [HELLO], "tools": [LOOK]})
        ).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Ok",
        "refusal": None,
        "reasoning_content": "Hm",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": '{"a": 1}'},
            },
            {"id": "call_2", "type": "function", "function": {"name": "note", "arguments": "{}"}},
        ],
    }
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3


async def test_only_calls_have_no_content() -> None:
    async with http_around(ScriptedClient(CALLS[0], *CALLS[3:])) as http:
        answer = (
            await http.post("/v1/chat/completions", json={"messages": [HELLO], "tools": [LOOK]})
        ).json()
    assert answer["choices"][0]["message"]["content"] is None


async def test_calls_and_reasoning_in_a_stream() -> None:
    async with http_around(ScriptedClient(*CALLS)) as http:
        body = {"messages": [HELLO], "tools": [LOOK], "stream": True}
        lines = (await http.post("/v1/chat/completions", json=body)).text.split("\n\n")
    choices = [
        json.loads(line.removeprefix("data: "))["choices"][0] for line in lines if "chunk" in line
    ]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"content": "Ok"},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "look", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        {
            "tool_calls": [
                {
                    "index": 1,
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "note", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None] * 8 + ["tool_calls"]
