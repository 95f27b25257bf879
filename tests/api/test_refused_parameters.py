"""What would change the response and cannot be done is refused by name, and so is what is
wrong; what cannot change it is taken.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_around, http_to

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
TEXT: dict[str, Any] = {"prompt": "Once"}

UNSUPPORTED_CHAT: list[tuple[str, Any]] = [
    ("audio", {"voice": "alloy", "format": "wav"}),
    ("function_call", {"name": "look"}),
    ("functions", [{"name": "look"}]),
    ("modalities", ["text", "audio"]),
    ("moderation", {"model": "omni"}),
    ("web_search_options", {}),
]
NEUTRAL_CHAT: dict[str, list[Any]] = {
    "audio": [None],
    "function_call": [None, "none", "auto"],
    "functions": [None, []],
    "logprobs": [None, False],
    "modalities": [None, ["text"]],
    "moderation": [None],
    "n": [None, 1],
    "parallel_tool_calls": [None, True, False],
    "metadata": [None, {"a": "b"}, {"a": {"b": [1]}}],
    "prediction": [None, {"type": "content", "content": "x"}],
    "prompt_cache_key": [None, "conversation-7"],
    "prompt_cache_options": [None, {"mode": "explicit"}],
    "prompt_cache_retention": [None, "in_memory", "24h"],
    "reasoning_effort": [None],
    "response_format": [None, {"type": "text"}],
    "safety_identifier": [None, "someone", 7],
    "service_tier": [None, "auto", "default", "flex"],
    "store": [None, False, True],
    "stop": [None, "", [], ["", "x"]],
    "stream_options": [None, {}, {"include_usage": True}, {"include_obfuscation": True, "x": 1}],
    "tool_choice": [None, "none", "auto"],
    "tools": [None, []],
    "top_logprobs": [None, 0],
    "user": [None, "someone", 7],
    "verbosity": [None, "medium", "low"],
    "web_search_options": [None],
}
NEUTRAL_TEXT: dict[str, list[Any]] = {
    "best_of": [None, 1],
    "echo": [None, False],
    "logprobs": [None],
    "n": [None, 1],
    "suffix": [None, ""],
}

# What is wrong with a parameter of both endpoints -> the field the answer names.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 1.01}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"top_k": 2**31}, "top_k"),
    ({"min_p": -0.5}, "min_p"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"repeat_penalty": 0}, "repeat_penalty"),
    ({"repeat_last_n": -2}, "repeat_last_n"),
    ({"seed": 2**63}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"ignore_eos": 1}, "ignore_eos"),
    ({"stream": "yes"}, "stream"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"stop": 7}, "stop"),
    ({"logit_bias": {"seven": 1}}, "logit_bias"),
    ({"logit_bias": {"-7": 1}}, "logit_bias"),
    ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
    ({"logit_bias": {"7": 101}}, "logit_bias[7]"),
    ({"logit_bias": [7]}, "logit_bias"),
    ({"cache_prompt": 1}, "cache_prompt"),
    ({"cache_prompt": False, "cache": "keep"}, "cache"),
    ({"exact": "yes"}, "exact"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"n": True}, "n"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": "yes"}, "logprobs"),
    ({"model": 7}, "model"),
]

MESSAGES: list[tuple[Any, str, str]] = [
    ([], "messages", "at least 1 item"),
    ("Hello", "messages", "valid list"),
    ([{"content": "Hello"}], "messages[0].role", "Missing required parameter"),
    ([{"role": "user"}], "messages[0].content", "a string or a list of text parts"),
    (
        [{"role": "user", "content": None}],
        "messages[0].content",
        "a string or a list of text parts",
    ),
    ([{"role": "user", "content": []}], "messages[0].content", "at least 1 item"),
    ([{"role": "wizard", "content": "Hello"}], "messages[0].role", "'assistant' or 'tool'"),
    (
        [
            {"role": "user", "content": "Hello"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": "x"}},
                ],
            },
        ],
        "messages[1].content[1].type",
        "parts of type 'image_url' are not supported yet",
    ),
    (
        [{"role": "user", "content": [{"type": "text"}]}],
        "messages[0].content[0].text",
        "Missing required parameter",
    ),
    (
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}],
        "messages[0].tool_calls[0].function",
        "Missing required parameter",
    ),
    (
        [
            {
                "role": "user",
                "content": "",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}],
            }
        ],
        "messages[0].tool_calls",
        "Only messages of the assistant can have tool calls",
    ),
    ([{"role": "tool", "content": "5"}], "messages[0].tool_call_id", "Missing required parameter"),
]


async def post(path: str, body: dict[str, Any]) -> httpx.Response:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        return await http.post(f"/v1/{path}", json=body)


async def refusal(path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await post(path, body)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("completions", {**TEXT, "messages": CHAT["messages"]}, "messages"),
        ("completions", {**TEXT, "tools": [{"type": "function"}]}, "tools"),
        ("chat/completions", {**CHAT, **TEXT}, "prompt"),
        ("chat/completions", {**CHAT, "suffix": "."}, "suffix"),
    ],
)
async def test_what_another_endpoint_does_is_refused_by_name(
    path: str, fields: dict[str, Any], param: str
) -> None:
    error = await refusal(path, fields)
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


@pytest.mark.parametrize(("name", "value"), UNSUPPORTED_CHAT)
async def test_an_unsupported_chat_parameter_is_refused_by_name(name: str, value: Any) -> None:
    error = await refusal("chat/completions", {**CHAT, name: value})
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")
    assert f"'{name}'" in error["message"]


@pytest.mark.parametrize(
    ("path", "base", "neutral"),
    [("chat/completions", CHAT, NEUTRAL_CHAT), ("completions", TEXT, NEUTRAL_TEXT)],
)
async def test_values_that_ask_for_nothing_are_taken(
    path: str, base: dict[str, Any], neutral: dict[str, list[Any]]
) -> None:
    refused = [
        (name, value)
        for name, values in neutral.items()
        for value in values
        if (await post(path, {**base, name: value})).status_code != 200
    ]
    assert refused == []


@pytest.mark.parametrize(("path", "base"), [("chat/completions", CHAT), ("completions", TEXT)])
@pytest.mark.parametrize(("fields", "param"), WRONG)
async def test_a_wrong_value_is_refused_and_its_field_named(
    path: str, base: dict[str, Any], fields: dict[str, Any], param: str
) -> None:
    error = await refusal(path, {**base, **fields})
    assert error["param"] == param


@pytest.mark.parametrize(("messages", "param", "says"), MESSAGES)
async def test_wrong_messages_are_refused_and_the_place_named(
    messages: Any, param: str, says: str
) -> None:
    error = await refusal("chat/completions", {"messages": messages})
    assert error["param"] == param
    assert says in error["message"]


@pytest.mark.parametrize(("path", "base"), [("chat/completions", CHAT), ("completions", TEXT)])
async def test_an_unknown_parameter_is_refused_by_name_where_that_is_wanted(
    path: str, base: dict[str, Any]
) -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER)), strict_parameters=True)

    async def refused(name: str) -> dict[str, Any]:
        async with http_to(app) as http:
            response = await http.post(f"/v1/{path}", json={**base, name: 0})
        assert response.status_code == 400
        assert "x-ignored-parameters" not in response.headers
        error: dict[str, Any] = response.json()["error"]
        return error

    error = await refused("tempratura")
    assert (error["param"], error["code"]) == ("tempratura", "unknown_parameter")
    assert error["message"] == "Unrecognized request argument supplied: 'tempratura'."
    assert (await refused("<text>"))["param"] == "<text>"
    assert len((await refused("x" * 100_000))["message"]) < 300


@pytest.mark.parametrize(
    ("path", "fields", "param", "says"),
    [
        ("chat/completions", {**CHAT, "n": 17}, "n", "less than or equal to 16"),
        (
            "chat/completions",
            {**CHAT, "top_logprobs": 3},
            "top_logprobs",
            "only allowed when 'logprobs' is true",
        ),
        (
            "chat/completions",
            {**CHAT, "logprobs": True, "top_logprobs": 21},
            "top_logprobs",
            "less than or equal to 20",
        ),
        ("completions", {**TEXT, "logprobs": 6}, "logprobs", "less than or equal to 5"),
        ("completions", {**TEXT, "best_of": 1, "n": 2}, "best_of", "must not be less than 'n'"),
        ("completions", {**TEXT, "best_of": 17}, "best_of", "less than or equal to 16"),
        ("completions", {**TEXT, "best_of": 2, "stream": True}, "best_of", "leave out 'stream'"),
        ("completions", {"prompt": [1, 2], "suffix": "."}, "suffix", "a prompt that is text"),
        (
            "completions",
            {**TEXT, "suffix": ".", "echo": True, "logprobs": 0},
            "echo",
            "leave out 'logprobs'",
        ),
        ("chat/completions", {**CHAT, "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ("completions", {"prompt": ["a"] * 9, "n": 15}, "prompt", "at most 128 choices"),
    ],
)
async def test_bounds_of_n_and_logprobs_are_named(
    path: str, fields: dict[str, Any], param: str, says: str
) -> None:
    error = await refusal(path, fields)
    assert error["param"] == param
    assert says in error["message"]
    assert (await post("completions", {**TEXT, "best_of": 2, "n": 2})).status_code == 200


async def test_two_different_limits_contradict_each_other() -> None:
    error = await refusal("chat/completions", {**CHAT, "max_tokens": 3, "max_completion_tokens": 4})
    assert error["param"] == "max_completion_tokens"


async def test_the_description_lists_every_parameter_and_no_422() -> None:
    async with http_around(ScriptedClient()) as http:
        described = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 404
    assert "422" not in str(described["paths"])
    schemas = described["components"]["schemas"]
    assert NEUTRAL_CHAT.keys() < schemas["ChatRequest"]["properties"].keys()
    assert schemas["ChatRequest"]["properties"]["audio"]["enum"] == [None]
    assert NEUTRAL_TEXT.keys() < schemas["CompletionRequest"]["properties"].keys()
