"""Functions, calls and results as plain messages."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.text.answer_formats import format_of
from appliance.text.answer_parser import AnswerParser
from appliance.text.answer_parts import CallArguments, CallBegun, joined
from appliance.text.calls.syntax import CallSyntax, Tool
from appliance.text.chats.generic_tools import (
    GENERIC_CALLS,
    can_write,
    in_words,
    with_described_tools,
    written_calls,
)
from appliance.text.marked_format import MarkedFormat
from tests.text.written_answers import WRITTEN

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
LOOK = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA},
}
DESCRIBED = """You can call functions to answer the user. Their signatures are in <tools></tools>:
<tools>
{"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
</tools>

To call a function, write only a JSON object with its name and its arguments within <tool_call></tool_call>, like this:
<tool_call>
{"name": "FUNCTION_NAME", "arguments": {"PARAMETER_NAME": "VALUE"}}
</tool_call>

What it returns comes within <tool_response></tool_response>."""  # noqa: E501 - as it is written


def said(role: str, content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(number: int, arguments: str = "{}") -> dict[str, Any]:
    function = {"name": f"f{number}", "arguments": arguments}
    return {"id": f"id{number}", "type": "function", "function": function}


def result(number: int, content: str) -> dict[str, Any]:
    return said("tool", content, tool_call_id=f"id{number}")


def test_functions_are_described_in_the_system_message() -> None:
    user = said("user", "Hi")
    assert with_described_tools([user], [LOOK], GENERIC_CALLS) == [
        said("system", f"You are a helpful assistant.\n\n{DESCRIBED}"),
        user,
    ]
    assert with_described_tools([said("system", "Be brief."), user], [LOOK], GENERIC_CALLS) == [
        said("system", f"Be brief.\n\n{DESCRIBED}"),
        user,
    ]


def test_a_model_with_calls_of_its_own_is_told_how_to_write_them() -> None:
    (syntax, *_) = form_of("<｜tool▁call▁begin｜>").calls
    (system, _) = with_described_tools([said("user", "Hi")], [LOOK], syntax)
    assert system["content"] == (
        "You are a helpful assistant.\n\n## Tools\nYou have access to the following tools:\n\n"
        "### look\nDescription: Looks.\n\n"
        'Parameters: {"type": "object", "properties": {"a": {"type": "integer"}}}\n\n'
        "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>FUNCTION_NAME<｜tool▁sep｜>"
        '{"PARAMETER_NAME": "VALUE"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
    )


def test_calls_and_results_are_told_and_roles_alternate() -> None:
    messages = [
        said("system", "S"),
        said("user", "Hi"),
        said("assistant", "Well.", tool_calls=[call(1, '{"x": 1.50}'), call(2)]),
        result(2, "two"),
        result(1, "one"),
        said("assistant", None, tool_calls=[call(3)]),
        result(3, ""),
        said("user", "So?"),
    ]
    assert in_words(messages) == [
        said("system", "S"),
        said("user", "Hi"),
        said(
            "assistant",
            'Well.\n<tool_call>\n{"name": "f1", "arguments": {"x": 1.50}}\n</tool_call>\n'
            '<tool_call>\n{"name": "f2", "arguments": {}}\n</tool_call>',
        ),
        said(
            "user",
            "<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>",
        ),
        said("assistant", '<tool_call>\n{"name": "f3", "arguments": {}}\n</tool_call>'),
        said("user", "<tool_response>\n\n</tool_response>\n\nSo?"),
    ]


def test_results_of_no_known_call_come_last_and_what_has_no_calls_stays() -> None:
    stray = [result(9, "nine"), result(1, "one")]
    told = in_words([said("assistant", "", tool_calls=[call(1)]), *stray])
    assert told[1]["content"].startswith("<tool_response>\none\n")
    plain = [said("user", "a"), said("assistant", "b"), said("user", "c"), said("user", "d")]
    assert in_words(plain) == plain


def form_of(evidence: str) -> MarkedFormat:
    form = format_of(evidence)
    assert isinstance(form, MarkedFormat)
    return form


SYNTAXES: list[CallSyntax] = [
    GENERIC_CALLS,
    *{
        syntax.begin + str(syntax.body): syntax
        for written in WRITTEN
        if isinstance(form := format_of(written.evidence), MarkedFormat)
        for syntax in form.calls
        if can_write(syntax)
    }.values(),
]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.begin)
def test_what_is_written_is_read_again(syntax: CallSyntax) -> None:
    calls = [("look", '{"a": {"b": ["<x>", "}"]}}'), ("wait", "{}")]
    form = MarkedFormat(calls=(syntax,))
    tools = {name: Tool(name) for name, _ in calls}
    parser = AnswerParser(form, tools, form.opening("", None))
    parts = joined([*parser.feed(written_calls(syntax, calls)), *parser.finish(is_cut=False)])
    assert [part.name for part in parts if isinstance(part, CallBegun)] == ["look", "wait"]
    assert [part.text for part in parts if isinstance(part, CallArguments)] == [
        arguments for _, arguments in calls
    ]


def test_forms_are_many() -> None:
    assert len(SYNTAXES) > 8
