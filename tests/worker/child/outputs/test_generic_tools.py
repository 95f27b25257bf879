"""Answers of models that are shown functions in words, or by a template that is not their own."""

from __future__ import annotations

import json

import pytest

from appliance.protocol.events import FinishReason
from appliance.protocol.requests import ToolCallRules
from appliance.protocol.sampling import SamplingParams
from appliance.worker.child.tokenizing.prompts import Prompts
from tests.worker.child.outputs.saying import (
    BARE,
    CALL,
    CTX,
    LOOK,
    MISTRAL,
    TOOLS,
    Letters,
    Said,
    chat,
)


def test_a_model_that_is_shown_functions_in_words_calls_them() -> None:
    said = Said(BARE, f"Ok.\n{CALL}\n{CALL}", chat(TOOLS))
    assert said.prompt is not None
    assert json.dumps(LOOK) in said.prompt
    assert (said.text, said.calls) == ("Ok.", [("look", '{"a": 1}')] * 2)
    assert said.finished.has_tool_calls
    assert [delta.tool_call.arguments for delta in said.deltas if delta.tool_call][:4] == [
        "",
        "{",
        '"',
        "a",
    ]


def test_calls_that_nobody_trained_keep_to_their_schema_and_text_is_free() -> None:
    wrong = '<tool_call>\n{"name": "look", "arguments": {"b": 5}}\n</tool_call>'
    called, arguments = Said(BARE, wrong, chat(TOOLS)).calls[0]
    assert (called, list(json.loads(arguments))) == ("look", ["a"])
    unknown = '<tool_call>\n{"name": "sing", "arguments": {}}\n</tool_call>'
    assert Said(BARE, unknown, chat(TOOLS)).calls[0][0] == "look"
    assert Said(BARE, "Hello {you}, <b>.", chat(TOOLS)).text == "Hello {you}, <b>."


def test_they_have_no_parameters_that_are_not_named() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    script = '<tool_call>\n{"name": "look", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    tools = [{"type": "function", "function": {"name": "look", "parameters": schema}}]
    assert json.loads(Said(BARE, script, chat(tools)).calls[0][1]) == {"a": 1}
    open_tools = [
        {
            "type": "function",
            "function": {"name": "look", "parameters": {**schema, "additionalProperties": True}},
        }
    ]
    assert Said(BARE, script, chat(open_tools)).calls == [("look", '{"a": 1, "b": 2}')]


@pytest.mark.parametrize("only", [None, "look"])
def test_required_calls_of_a_model_that_is_shown_them_in_words(only: str | None) -> None:
    rules = ToolCallRules(is_required=True, only=only, several=False)
    said = Said(BARE, "7" * 9, chat(TOOLS, tool_calls=rules))
    (call,) = said.calls
    assert (said.text, call[0]) == ("", "look")
    assert isinstance(json.loads(call[1])["a"], int)


def test_a_template_for_functions_and_its_form() -> None:
    vocabulary = Letters(BARE)
    named = {"tokenizer.chat_template": BARE, "tokenizer.chat_template.tool_use": MISTRAL}
    vocabulary.metadata = named.get  # type: ignore[method-assign]
    prompts = Prompts(vocabulary, CTX)
    with_tools, without = (prompts.rendered(chat(tools).prompt) for tools in (TOOLS, None))
    assert with_tools is not None
    assert without is not None
    assert with_tools.form.marks == ["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"]
    assert (without.text, with_tools.text) == ("Hello", f"{TOOLS}Hello")


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def test_a_template_whose_end_of_turn_is_no_token_ends_answers_all_the_same() -> None:
    said = Said(BARE, "Hi.<|im_end|>\n<|im_start|>user\nMore", chat(), chat_template=CHATML)
    assert (said.text, said.finished.reason) == ("Hi.", FinishReason.STOP)
    assert said.finished.stop_string == "", "nobody has sent one"
    sent = Said(BARE, "Hi.<|im_end|>", chat(stop=["<|im_end|>"]), chat_template=CHATML)
    assert (sent.text, sent.finished.stop_string) == ("Hi.", "<|im_end|>")
    on = Said(
        BARE,
        "Hi.<|im_end|>More",
        chat(sampling=SamplingParams(ignore_eos=True), max_tokens=17),
        chat_template=CHATML,
    )
    assert on.text == "Hi.<|im_end|>More"


def test_a_special_token_ends_answers_where_it_is_the_end_of_a_turn() -> None:
    noisy = CHATML.replace("<|im_end|>", "<|noise|>")
    said = Said(BARE, "Hi.<|noise|>More", chat(), chat_template=noisy)
    assert (said.text, said.finished.reason) == ("Hi.", FinishReason.STOP)
    assert Said(BARE, "Hi.<|noise|>More", chat()).text == "Hi.More"
