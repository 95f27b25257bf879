"""What is wrong with an answer, as far as that can be told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from appliance.gateway.tiers.verdict import complaint_about
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Started,
    ToolCallPart,
    Usage,
)
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import (
    ChatPrompt,
    GenerateRequest,
    Grammar,
    TextPrompt,
    ToolCallRules,
)

PLAIN = GenerateRequest(prompt=TextPrompt("Go"))
LOOK_UP = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
CALLING = GenerateRequest(prompt=ChatPrompt(messages=[], tools=[LOOK_UP]))


def answer(
    *deltas: Delta, reason: FinishReason = FinishReason.STOP, unenforced: list[str] | None = None
) -> list[Event]:
    usage = Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=70)
    return [
        Started(1, 5, unenforced or []),
        *deltas,
        Finished(request_id=1, reason=reason, usage=usage),
    ]


def said(text: str, *logprobs: float) -> Delta:
    tokens = [SampledToken(LikelyToken(b"x", logprob), [], 0) for logprob in logprobs]
    return Delta(request_id=1, text=text, num_tokens=1, tokens=tokens or None)


def called(name: str, arguments: str) -> list[Delta]:
    parts = (ToolCallPart(0, "", "call_1", name), ToolCallPart(0, arguments))
    return [Delta(request_id=1, text="", num_tokens=1, tool_call=part) for part in parts]


def with_schema(schema: Any) -> GenerateRequest:
    grammar = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema), "response_format")
    return msgspec.structs.replace(PLAIN, grammar=grammar)


def test_nothing_is_wrong() -> None:
    assert complaint_about(PLAIN, answer(said("Hello")), -1.0) is None


def test_an_answer_that_was_cut_unless_it_was_meant_to_be_short() -> None:
    cut = answer(said("Hello"), reason=FinishReason.LENGTH)
    assert complaint_about(PLAIN, cut, None) == "was cut after 70 tokens"
    for max_tokens, expected in ((64, "was cut after 70 tokens"), (63, None)):
        request = msgspec.structs.replace(PLAIN, max_tokens=max_tokens)
        assert complaint_about(request, cut, None) == expected


@pytest.mark.parametrize(
    ("text", "unenforced", "expected"),
    [
        ('{"name": 1}', [], None),
        ('{"name": ', [], "is no JSON"),
        ('{"other": 1}', [], None),  # the grammar has seen to it, so it is not looked at again
        ('{"other": 1}', ["/properties/name"], "lacks 'name', which its schema requires"),
        ("[]", ["/properties/name"], "lacks 'name', which its schema requires"),
    ],
)
def test_a_form_that_is_not_kept(text: str, unenforced: list[str], expected: str | None) -> None:
    request = with_schema({"type": "object", "required": ["name"]})
    assert complaint_about(request, answer(said(text), unenforced=unenforced), None) == expected


def test_calls_that_nobody_can_make() -> None:
    bad = "calls a tool with arguments that are no JSON object"
    assert complaint_about(CALLING, answer(*called("look_up", '{"x": 1}')), None) is None
    assert complaint_about(CALLING, answer(*called("look_up", "")), None) is None
    assert complaint_about(CALLING, answer(*called("look_up", "{x")), None) == bad
    unknown = complaint_about(CALLING, answer(*called("look_down", "{}")), None)
    assert unknown == "calls a tool that there is not"
    required = msgspec.structs.replace(CALLING, tool_calls=ToolCallRules(is_required=True))
    assert complaint_about(required, answer(said("No")), None) == "calls no tool"


def test_an_answer_that_the_model_did_not_believe_in() -> None:
    unsure = answer(said("He", -1.0), said("llo", -3.0))
    assert complaint_about(PLAIN, unsure, -2.0) is None
    assert complaint_about(PLAIN, unsure, -1.5) == (
        "has a mean log-probability of -2.00 (a probability of 0.14), below -1.50 (0.22)"
    )
    assert complaint_about(PLAIN, unsure, None) is None
    scored = msgspec.structs.replace(PLAIN, scores_prompt=True)
    assert complaint_about(scored, unsure, -1.5) is None, "the prompt's are among them"
