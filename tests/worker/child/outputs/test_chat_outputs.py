"""A chat from its messages to its events, with tokens scripted at the Runner seam in
place of a clever model.
"""

from __future__ import annotations

import json
import re

import pytest

from appliance.errors import BadRequest
from appliance.protocol.events import FinishReason
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import ChatPrompt, GenerateRequest, Grammar, ToolCallRules
from tests.worker.child.outputs.saying import (
    BARE,
    CALL,
    END,
    HELLO,
    HERMES,
    MISTRAL,
    TOOLS,
    Said,
    chat,
    tokens_of,
)


def test_reasoning_text_and_calls_of_an_answer() -> None:
    said = Said(HERMES, f"<think>\nHm.\n</think>\n\nOk.\n{CALL}\n{CALL}", chat(TOOLS))
    assert (said.reasoning, said.text) == ("Hm.", "Ok.")
    assert said.calls == [("look", '{"a": 1}')] * 2
    assert (said.finished.reason, said.finished.has_tool_calls) == (FinishReason.STOP, True)
    assert (
        said.finished.usage.num_completion_tokens
        == len(f"<think>\nHm.\n</think>\n\nOk.\n{CALL}\n{CALL}") + 1
    )
    assert (
        sum(delta.num_tokens for delta in said.deltas) <= said.finished.usage.num_completion_tokens
    )
    # From its first letter to the mark behind it: what is no text yet counts as what
    # was before.
    assert said.finished.usage.num_reasoning_tokens == len("Hm.\n</think>\n\n")
    assert all(re.fullmatch(r"call_[A-Za-z0-9]{24}", an_id) for an_id in said.ids)
    assert len(set(said.ids)) == 2


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize(
    ("template", "script", "stop"),
    [
        (HERMES, f"<think>\nHm.\n</think>\n\nOk.\n{CALL}\n{CALL}", []),
        (HERMES, f"<think>STOP</think>c {CALL} d STOP e", ["STOP"]),
        (MISTRAL, '<|noise|>Hi[TOOL_CALLS]look[ARGS]{"a": 1}<|noise|>', []),
    ],
)
def test_the_ids_of_an_answer_are_all_that_were_sampled_also_of_its_marks(
    template: str, script: str, stop: list[str], *, several: bool
) -> None:
    rules = ToolCallRules(several=several)
    said = Said(template, script, chat(TOOLS, stop=stop, tool_calls=rules, reports_tokens=True))
    ids = [token for delta in said.deltas for token in delta.token_ids or []]
    assert ids == [*tokens_of(script), END][: said.finished.usage.num_completion_tokens]
    plain = Said(template, script, chat(TOOLS, stop=stop, tool_calls=rules))
    assert all(delta.token_ids is None for delta in plain.deltas)
    assert (said.text, said.calls) == (plain.text, plain.calls)
    assert said.finished.usage == plain.finished.usage


def test_arguments_are_streamed_letter_by_letter() -> None:
    said = Said(HERMES, CALL, chat(TOOLS))
    assert [delta.tool_call.arguments for delta in said.deltas if delta.tool_call] == [
        "",
        *'{"a": 1}',
    ]


def test_special_tokens_that_are_marks_are_read_and_others_are_not() -> None:
    said = Said(MISTRAL, '<|noise|>Hi[TOOL_CALLS]look[ARGS]{"a": 1}<|noise|>', chat(TOOLS))
    assert (said.text, said.calls) == ("Hi", [("look", '{"a": 1}')])
    assert re.fullmatch("[A-Za-z0-9]{9}", said.ids[0]), "as its template wants it back"


def test_one_call_ends_the_answer_where_only_one_is_allowed() -> None:
    said = Said(HERMES, CALL + CALL + "more", chat(TOOLS, tool_calls=ToolCallRules(several=False)))
    assert (said.text, said.calls) == ("", [("look", '{"a": 1}')])
    assert said.finished.reason is FinishReason.STOP
    # The call is complete with its last bracket.
    assert said.finished.usage.num_completion_tokens == len(CALL) - len("\n</tool_call>")


def test_an_answer_cut_inside_a_call_says_so_and_leaks_none_of_it() -> None:
    for max_tokens in range(1, len(CALL)):
        said = Said(HERMES, CALL, chat(TOOLS, max_tokens=max_tokens))
        assert (said.text, said.finished.reason) == ("", FinishReason.LENGTH)


def test_stop_strings_are_looked_for_in_text_only() -> None:
    said = Said(HERMES, f"<think>a STOP b</think>c {CALL} d STOP e", chat(TOOLS, stop=["STOP"]))
    assert (said.reasoning, said.text, len(said.calls)) == ("a STOP b", "cd ", 1)
    assert said.finished.reason is FinishReason.STOP
    inside = Said(
        HERMES,
        '<tool_call>{"name": "look", "arguments": {"a": "STOP"}}</tool_call>',
        chat(TOOLS, stop=["STOP"]),
    )
    assert inside.calls == [("look", '{"a": "STOP"}')]


def test_required_calls_are_written_whatever_the_model_would_say() -> None:
    rules = ToolCallRules(is_required=True, several=False)
    said = Said(HERMES, "7" * 9, chat(TOOLS, {"reasoning_effort": "none"}, tool_calls=rules))
    (call,) = said.calls
    assert (said.text, call[0]) == ("", "look")
    assert isinstance(json.loads(call[1])["a"], int)
    assert said.finished.has_tool_calls


def test_strict_functions_are_called_as_they_are() -> None:
    script = 'Ok.<tool_call>\n{"name": "look", "arguments": {"b": 5}}\n</tool_call>'
    loose, strict = (
        Said(HERMES, script, chat(TOOLS, tool_calls=ToolCallRules(is_strict=value)))
        for value in (False, True)
    )
    assert loose.calls == [("look", '{"b": 5}')]
    assert strict.text == "Ok."
    assert isinstance(json.loads(strict.calls[0][1])["a"], int)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (GrammarKind.REGEX, "[0-9]{3}"),
        (GrammarKind.LARK, "start: /[0-9]{3}/"),
        (GrammarKind.GBNF, "root ::= digit digit digit\ndigit ::= [0-9]"),
        (GrammarKind.CHOICE, '["123", "no "]'),
        (GrammarKind.JSON_SCHEMA, '{"type": "integer", "minimum": 100, "maximum": 999}'),
    ],
)
def test_a_form_is_kept_to_behind_the_reasoning(kind: GrammarKind, source: str) -> None:
    grammar = Grammar(kind, source, "grammar")
    said = Said(HERMES, "<think>\nHm\n</think>\n\n123", chat(grammar=grammar))
    assert (said.reasoning, said.text) == ("Hm", "123")
    said = Said(HERMES, "no thoughts", chat(grammar=grammar))
    assert (said.reasoning, len(said.text)) == ("", 3)


def test_a_form_or_a_call() -> None:
    grammar = Grammar(GrammarKind.REGEX, "[0-9]{3}", "grammar")
    assert Said(HERMES, "123", chat(TOOLS, grammar=grammar)).text == "123"
    assert Said(HERMES, CALL, chat(TOOLS, grammar=grammar)).calls == [("look", '{"a": 1}')]


@pytest.mark.parametrize(("budget", "reasoning"), [(0, ""), (3, "abc"), (100, "abcdef")])
def test_reasoning_ends_where_its_budget_does(budget: int, reasoning: str) -> None:
    said = Said(HERMES, "<think>abcdef</think>Hi", chat(max_reasoning_tokens=budget))
    assert said.reasoning == reasoning
    assert said.text.endswith("Hi")


def test_effort_none_switches_reasoning_off_and_a_form_comes_at_once() -> None:
    grammar = Grammar(GrammarKind.REGEX, "[0-9]{3}", "grammar")
    said = Said(HERMES, "<think>", chat(grammar=grammar, prompt={"reasoning_effort": "none"}))
    assert said.prompt is not None
    assert said.prompt.endswith("<think>\n\n</think>\n\n")
    assert (said.reasoning, len(said.text)) == ("", 3)


def test_a_begun_thought_is_gone_on_with() -> None:
    messages = [HELLO, {"role": "assistant", "content": "<think>\nSo"}]
    said = Said(
        HERMES,
        " it is</think>Hi",
        GenerateRequest(prompt=ChatPrompt(messages=messages, continue_final_message=True)),
    )
    assert (said.reasoning, said.text) == ("it is", "Hi")


def test_earlier_calls_are_shown_as_the_template_wants_them() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"a": 1}'},
    }
    messages = [HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}]
    said = Said(HERMES, "Hi", GenerateRequest(prompt=ChatPrompt(messages=messages)))
    assert (
        said.prompt == '<user>Hello<assistant><tool_call>{"name": "look", "arguments": {"a": '
        "1}}</tool_call><assistant>"
    )
    call["function"] = {"name": "look", "arguments": "{broken"}
    with pytest.raises(BadRequest, match="not valid JSON") as refused:
        Said(HERMES, "Hi", GenerateRequest(prompt=ChatPrompt(messages=messages)))
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (chat(TOOLS), "tools"),
        (chat(prompt={"reasoning_effort": "low"}), "reasoning_effort"),
        (chat(max_reasoning_tokens=5), "reasoning_budget"),
    ],
)
def test_what_a_model_cannot_do_is_refused(request_: GenerateRequest, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Said(BARE, "Hi", request_, tools="native")
    assert refused.value.param == param


def test_a_limit_that_may_be_without_reasoning_limits_nothing() -> None:
    said = Said(BARE, "Hi", chat(max_reasoning_tokens=5, may_lack_reasoning=True))
    assert (said.text, said.reasoning) == ("Hi", "")
    limited = chat(max_reasoning_tokens=3, may_lack_reasoning=True)
    assert Said(HERMES, "<think>abcdef</think>Hi", limited).reasoning == "abc"


def test_effort_none_is_fine_for_a_model_that_does_not_reason() -> None:
    assert Said(BARE, "Hi", chat(prompt={"reasoning_effort": "none"})).text == "Hi"
