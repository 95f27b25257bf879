"""Parameters of tools, in the forms in which calls are written."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.errors import BadRequest
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.answer_format import Opening
from appliance.text.answer_formats import format_of
from appliance.text.calls.syntax import Tool
from appliance.text.grammar import AnswerGrammar, Grammars, TokenTexts

TEXTS = [*(bytes([value]) for value in range(256)), b"<|end|>"]
UNIQUE: dict[str, Any] = {"properties": {"a": {"type": "array", "uniqueItems": True}}}
REFERRING: dict[str, Any] = {
    "type": "object",
    "properties": {"p": {"$ref": "#/$defs/point"}},
    "required": ["p"],
    "$defs": {"point": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}},
}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(
        TokenTexts(texts=TEXTS, special=[256], end_tokens=[256], bos=None, tokenize=list)
    )


def wanted(form: str, *tools: Tool, **others: Any) -> AnswerGrammar:
    return AnswerGrammar(form=format_of(form), opening=Opening.FRESH, tools=tools, **others)


def test_what_is_left_to_the_model_is_named_with_its_tool(grammars: Grammars) -> None:
    schema = ("json_schema", '{"type": "array", "uniqueItems": true}')
    compiled = grammars.compile_answer(
        wanted(
            "<tool_call>",
            Tool("look", UNIQUE),
            Tool("note", UNIQUE),
            text=(GrammarKind(schema[0]), schema[1]),
        )
    )
    assert compiled.unenforced == (
        "look#/properties/a/uniqueItems",
        "note#/properties/a/uniqueItems",
        "#/uniqueItems",
    )


def test_only_strict_tools_are_refused(grammars: Grammars) -> None:
    with pytest.raises(BadRequest, match=r"\(note#/properties/a/uniqueItems\) cannot be enforced"):
        grammars.compile_answer(
            wanted("<tool_call>", Tool("look", UNIQUE), Tool("note", UNIQUE, is_strict=True))
        )


@pytest.mark.parametrize(
    ("form", "begun"),
    [
        ("<tool_call>", '<tool_call>\n{"name": "go", "arguments": {"p":[1,2'),
        ("<tool_call><function=", "<tool_call>\n<function=go>\n<parameter=p>\n[1,2"),
    ],
)
def test_references_of_a_parameter_lead_to_their_schema(
    grammars: Grammars, form: str, begun: str
) -> None:
    constraint = grammars.compile_answer(wanted(form, Tool("go", REFERRING)))
    for token in begun.encode():
        assert int.from_bytes(constraint.mask(), "little") >> token & 1, bytes([token])
        constraint.accept(token)
    bits = int.from_bytes(constraint.mask(), "little")
    assert bits >> ord("]") & 1
    assert not bits >> ord(",") & 1, "two items at most"
