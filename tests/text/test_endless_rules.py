"""Grammars that no text ends are refused before any is written, with the rule's place."""

from __future__ import annotations

import pytest

from appliance.errors import BadRequest
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.endless_rules import endless_rule
from appliance.text.grammar import Grammars, TokenTexts

END = 256
FOUND = [
    ("start: start", "start", 1),
    ('start: "x" start', "start", 1),
    ('start: "x" a\na: a', "a", 2),
    ('start: "x" a | "y"\n\n// a: "z"\na: a "b"', "a", 4),
    ('start: a "x"\na: b\nb: c | "q" a\nc: a+', "a", 2),
    ('start: "x" (a | b)\na: ("y" | "z") a\nb: ["q"] b', "a", 2),
    ('start: "1" | a\na: %json {"const": ":\\n|"} a\n | "x" a', "a", 2),
    ('start: a*\na: "x" a', "a", 2),
    ("start: /x/ | a\na[max_tokens=3]: a{1,2}", "a", 2),
    ('start: "x" | A a // b\nA: "a:"\n?a: "b" A a', "a", 3),
]
ENDING = [
    'start: "x" start | "y"',
    'start: "x" start?',
    'start: a*\na: "x" | a',
    'start: ["x" start] "y"',
    "start: a{0,3}\na: start | b\nb: b?",
    "start: a ~ 0..3\na: a | /x/",
    "start: (a | )\na: start | /y/",
    'start: "y"\nunused: unused',
    'start: "x" | start -> again',
    "start: nowhere",
    'start: "x" (',
    "start: %lark {\nstart: start\n}",
    'a: "x"',
    "",
]


@pytest.mark.parametrize(("source", "name", "line"), FOUND)
def test_a_rule_without_an_end_is_found(source: str, name: str, line: int) -> None:
    rule = endless_rule(source)
    assert rule is not None
    assert (rule.name, rule.line) == (name, line)


@pytest.mark.parametrize("source", ENDING)
def test_what_has_an_end_or_is_not_understood_is_left_to_the_compiler(source: str) -> None:
    assert endless_rule(source) is None


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    texts = [*(bytes([value]) for value in range(256)), b"<|end|>"]
    return Grammars(
        TokenTexts(texts=texts, special=[END], end_tokens=[END], bos=None, tokenize=list)
    )


@pytest.mark.parametrize(
    ("kind", "source", "words"),
    [
        (GrammarKind.LARK, 'start: "x" a\na: a', r"rule 'a' \(line 2\) has no end"),
        (GrammarKind.GBNF, 'root ::= "x" b | "y"\nb ::= b', r"rule 'b' has no end"),
        (GrammarKind.GBNF, 'root ::= "x" root', "rule 'root' has no end"),
        (GrammarKind.GBNF, "root ::= start\nstart ::= start", "rule 'start' has no end"),
    ],
)
def test_the_message_names_the_rule(
    grammars: Grammars, kind: GrammarKind, source: str, words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        grammars.compile(kind, source)


@pytest.mark.parametrize("source", ENDING[:7])
def test_the_compiler_takes_them(grammars: Grammars, source: str) -> None:
    assert any(grammars.compile(GrammarKind.LARK, source).mask())
