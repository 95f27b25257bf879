"""The points of requests, exactly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.gateway.tiers.complexity import MOST, complexity_of
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import (
    ChatPrompt,
    GenerateRequest,
    Grammar,
    InfillPrompt,
    MixedPrompt,
    TextPrompt,
    TokenPrompt,
)


def chat(*texts: str, **more: Any) -> GenerateRequest:
    """The user's messages, each answered but the last."""
    messages: list[dict[str, Any]] = []
    for text in texts:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]
    return GenerateRequest(prompt=ChatPrompt(messages=messages[:-1], **more))


def points(request: GenerateRequest) -> dict[str, int]:
    return {signal.name: signal.points for signal in complexity_of(request).signals}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello!", {}),
        ("Who are you?", {}),
        ("Write a poem about the sea.", {}),
        ("In 1912 a ship sank.", {}),
        ("Write a Python function that reverses a list.", {"code": 30}),
        ("```\nx = f(y)\n```\nWhat is wrong with this code?", {"code": 30}),
        ("How many legs have three dogs?", {"mathematics": 15}),
        ("Calculate 12 * 7.", {"mathematics": 30}),
        ("Let $x^2 + 1 = 0$. Solve for x.", {"mathematics": 30}),
        ("Why is the sky blue?", {"reasoning": 15}),
        ("Analyze the trade-offs, and think carefully: is it true or false?", {"reasoning": 25}),
        ("Почему небо голубое", {"language": 10}),
        ("Say yes, briefly.", {"hints": -10}),
        ("word " * 320, {"length": 18}),  # 400 tokens: log2(12.5) = 3.64 doublings
        ("word " * 100_000, {"length": 25}),
    ],
)
def test_each_signal(text: str, expected: dict[str, int]) -> None:
    assert points(chat(text)) == expected
    assert points(GenerateRequest(prompt=TextPrompt(text))) == expected


def test_a_conversation_is_as_deep_as_its_turns_and_leans_on_the_one_before() -> None:
    assert points(chat("Hello", "And then?", "Go on")) == {"depth": 6}
    assert points(chat(*["Hello"] * 30)) == {"length": 5, "depth": 15}
    assert points(chat("Calculate 12 * 7.", "And with 8?")) == {"mathematics": 30, "depth": 3}
    assert points(chat("Calculate 12 * 7.", "Thank you", "Bye")) == {"depth": 6}


def test_tools_and_effort_are_hints_that_need_no_text() -> None:
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
    assert points(chat("Hello", tools=[tool])) == {"tools": 13}
    assert points(chat("Hello", tools=[tool] * 9)) == {"tools": 25}
    assert points(chat("Hello", reasoning_effort="high")) == {"hints": 35}
    assert points(chat("Hello", reasoning_effort="low")) == {"hints": -10}
    request = GenerateRequest(prompt=TextPrompt("Yes or no?"), max_tokens=1)
    assert points(request) == {"hints": -20}
    assert complexity_of(request).score == 0, "and not less"


def test_a_form_is_as_hard_as_it_is_deep() -> None:
    def asked(kind: GrammarKind, source: str) -> GenerateRequest:
        return GenerateRequest(prompt=TextPrompt("Go"), grammar=Grammar(kind, source, "format"))

    flat = {"type": "object", "properties": {"name": {"type": "string"}}}
    deep = {"type": "object", "properties": {"rows": {"type": "array", "items": flat}}}
    assert points(asked(GrammarKind.JSON_SCHEMA, json.dumps(flat))) == {"schema": 8}
    assert points(asked(GrammarKind.JSON_SCHEMA, json.dumps(deep))) == {"schema": 14}
    assert points(asked(GrammarKind.JSON_SCHEMA, "{broken")) == {"schema": 5}
    assert points(asked(GrammarKind.JSON_SCHEMA, " " * 32_769)) == {"schema": 20}
    assert points(asked(GrammarKind.REGEX, "a+")) == {"schema": 10}
    assert points(asked(GrammarKind.CHOICE, '["a", "b"]')) == {"schema": -5}


def test_what_has_no_text_has_a_length() -> None:
    assert points(GenerateRequest(prompt=TokenPrompt([1] * 64))) == {"length": 5}
    assert points(GenerateRequest(prompt=MixedPrompt(["Hello", [1] * 63]))) == {"length": 5}
    gap = InfillPrompt(prefix="def add(a, b):\n    return ", suffix=";\n")
    assert points(GenerateRequest(prompt=gap)) == {"code": 30}
    parts = [{"type": "text", "text": "Calculate"}, {"type": "image_url"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    assert points(GenerateRequest(prompt=ChatPrompt(messages=messages))) == {}


def test_the_sum_has_a_limit_and_a_reason() -> None:
    everything = chat(
        *["Calculate 12 * 7 step by step, then write a Python function. " * 40] * 6,
        tools=[{"function": {"name": "x"}}] * 5,
        reasoning_effort="high",
    )
    found = complexity_of(everything)
    assert found.score == MOST == 100
    assert found.reason == (
        "hints 35, code 30, mathematics 30, length 25, tools 25, reasoning 15, depth 15"
    )
    assert complexity_of(chat("Hello")).reason == "nothing in it"


def test_of_a_long_text_its_ends_are_looked_at() -> None:
    long = "word " * 2000
    question = "Write a Python function."
    assert points(chat(f"{question} {long}")) == points(chat(f"{long} {question}"))
    assert points(chat(f"{question} {long}")) == {"length": 25, "code": 30}
    assert points(chat(f"{long} {question} {long}")) == {"length": 25}
