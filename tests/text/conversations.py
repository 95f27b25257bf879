"""Conversations that chat templates are rendered with, here and by transformers.

Knows neither.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

NOW = datetime.datetime(2026, 11, 23, 9, 30)  # noqa: DTZ001 - templates read the local time
SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "What the weather is like.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Such as Zürich <ZH>"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "default": 1},
                "places": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city"],
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}
# What people's servers of tools declare: no descriptions, and more than plain types.
BOOK = {
    "type": "function",
    "function": {
        "name": "rooms/book.one-night",
        "description": "",
        "parameters": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$defs": {"guest": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "type": "object",
            "properties": {
                "type": {"enum": ["single", "double", 2]},
                "guest": {"$ref": "#/$defs/guest"},
                "beds": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                "wishes": {"type": "array", "items": {"type": "object", "properties": {}}},
                "nights": {"type": "array", "items": {"type": "string", "format": "date"}},
                "extras": {"type": "object", "additionalProperties": {"type": "number"}},
                "address": {
                    "type": "object",
                    "properties": {"zip": {"type": "string"}, "geo": {"type": "object"}},
                },
                "anything": {},
            },
            "required": [],
            "additionalProperties": False,
        },
    },
}
NOTE = {
    "type": "function",
    "function": {
        "name": "note",
        "description": "Keeps a note.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": ["string", "null"], "description": "What to keep."},
                "tags": {"type": "array", "items": {"type": ["string", "null"]}},
            },
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    },
}


@dataclass(frozen=True)
class Conversation:
    """What a template is given;
    `continue_final_message` with the last message's text.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    continue_final_message: bool = False


def message(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(name: str, arguments: dict[str, Any], call_id: str = "abcdef123") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = message("system", "Be brief.  ")
ASK, ANSWER, AGAIN = (
    message("user", " What is <b>2 + 2</b>? 数 "),
    message("assistant", "It is 4."),
    message("user", "And\n3 + 3?"),
)
WARM = message("tool", '{"celsius": 21}', tool_call_id="abcdef123", name="get_weather")

CONVERSATIONS = {
    "one question": Conversation([ASK]),
    "a system message": Conversation([SYSTEM, ASK]),
    "turns": Conversation([SYSTEM, ASK, ANSWER, AGAIN]),
    "turns without system": Conversation([ASK, ANSWER, AGAIN]),
    "two questions in a row": Conversation([ASK, AGAIN]),
    "an unknown role": Conversation([message("wizard", "Abracadabra."), ASK]),
    "tools": Conversation([SYSTEM, ASK], tools=[WEATHER, ADD]),
    "a call and its result": Conversation(
        [
            message("user", "Is it warm?"),
            message("assistant", "", tool_calls=[call("get_weather", {"city": "Ulm"})]),
            WARM,
        ],
        tools=[WEATHER],
    ),
    "a call without content": Conversation(
        [
            message("user", "Is it warm?"),
            message("assistant", None, tool_calls=[call("get_weather", {"city": "Ulm"})]),
            WARM,
        ],
        tools=[WEATHER],
    ),
    "two calls at once, then an answer": Conversation(
        [
            message("user", "Is it warm, and what is 2 + 3?"),
            message(
                "assistant",
                "Let me see.",
                tool_calls=[
                    call("get_weather", {"city": "Zürich", "days": 2}),
                    call("add", {"a": 2, "b": 3.5}, "abcdef124"),
                ],
            ),
            WARM,
            message("tool", "5.5", tool_call_id="abcdef124", name="add"),
            message("assistant", "Warm, and 5.5."),
            AGAIN,
        ],
        tools=[WEATHER, ADD],
    ),
    "schemas of every kind": Conversation([SYSTEM, ASK], tools=[BOOK, CLOCK]),
    "a type or null": Conversation([ASK], tools=[NOTE]),
    "empty results, one after the other": Conversation(
        [
            message("user", "Is it warm?"),
            message("assistant", "", tool_calls=[call("clock", {})]),
            message("tool", "", tool_call_id="abcdef123", name="clock"),
            message("assistant", "", tool_calls=[call("clock", {}, "abcdef124")]),
            message("tool", "[1, null]", tool_call_id="abcdef124", name="clock"),
        ],
        tools=[CLOCK],
    ),
    "results where no tools are left": Conversation(
        [
            message("user", "Is it warm?"),
            message(
                "assistant",
                "",
                tool_calls=[
                    call("note", {"text": 'a "b" <c>\n数', "tags": [], "deep": {"x": [1.5]}})
                ],
            ),
            WARM,
            message("assistant", "It is."),
            AGAIN,
        ]
    ),
    "reasoning": Conversation(
        [ASK, message("assistant", "It is 4.", reasoning_content="Two and two."), AGAIN]
    ),
    "reasoning in tags": Conversation(
        [ASK, message("assistant", "<think>\nTwo and two.\n</think>\n\nIt is 4."), AGAIN]
    ),
    "thinking on": Conversation([ASK], arguments={"enable_thinking": True, "thinking": True}),
    "thinking off": Conversation([ASK], arguments={"enable_thinking": False, "thinking": False}),
    "effort": Conversation([SYSTEM, ASK], arguments={"reasoning_effort": "high"}),
    "an answer begun": Conversation(
        [SYSTEM, ASK, message("assistant", "It is, I think, ")], continue_final_message=True
    ),
    "a word begun": Conversation([ASK, message("assistant", "It i")], continue_final_message=True),
}
