"""Grammars over a vocabulary of bytes and a few longer tokens: what is chosen at random
within the masks is valid.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import BadRequest, ConstraintFailed, DecodeFailed
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.grammar import Grammars, TokenTexts
from appliance.text.written_grammar import MAX_GRAMMAR_CHARS, MAX_SCHEMA_CHARS
from appliance.worker.child.tokenizing.grammars import STACK_BYTES

WORDS = [b'{"', b'":', b'", "', b"true", b"12", b"  ", b"</call>", "é".encode(), b"\xc3"]
TEXTS = [*(bytes([value]) for value in range(256)), *WORDS, b"<|call|>", b"<|end|>"]
CALL, END = len(TEXTS) - 2, len(TEXTS) - 1
MAX_TOKENS = 4000
REFUSED_WITHIN_S = 1.0  # by the promise, not by this machine
# Of processor time, on a slow machine: what would not end takes minutes.
COMPILED_WITHIN_S = 4.0


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(
        TokenTexts(texts=TEXTS, special=[CALL, END], end_tokens=[END], bos=None, tokenize=list)
    )


def allowed(mask: bytes) -> list[int]:
    bits = int.from_bytes(mask, "little")
    assert bits >> len(TEXTS) == 0, "no token beyond the vocabulary"
    return [token for token in range(len(TEXTS)) if bits >> token & 1]


def written(
    grammars: Grammars,
    kind: GrammarKind,
    source: str,
    chance: random.Random,
    bits: Callable[[bytes], list[int]] = allowed,
) -> bytes:
    """A random answer; it ends as soon as it may, now and then later."""
    constraint = grammars.compile(kind, source)
    answer: list[int] = []
    while not answer or answer[-1] != END:
        may_come = bits(constraint.mask())
        ends = END in may_come and (len(may_come) == 1 or chance.random() < 0.5)
        answer.append(END if ends else chance.choice([token for token in may_come if token != END]))
        constraint.accept(answer[-1])
        assert len(answer) < MAX_TOKENS
    return b"".join(TEXTS[token] for token in answer[:-1])


def deep(work: Callable[[], None]) -> None:
    """Runs `work` in a thread with the stack that compiling needs."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            failed.append(error)

    usual = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=guarded)
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    if failed:
        raise failed[0]


# --- what is written is valid ---------------------------------------------------------

Fits = Callable[[Any], bool]
Kind = tuple[dict[str, Any], Fits]


def is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def enum_of(values: list[Any]) -> Kind:
    return {"enum": values}, lambda value: any(
        type(value) is type(one) and value == one for one in values
    )


def array_of(item: Kind, least: int, more: int) -> Kind:
    schema = {"type": "array", "items": item[0], "minItems": least, "maxItems": least + more}
    return (
        schema,
        lambda value: (
            isinstance(value, list)
            and least <= len(value) <= least + more
            and all(map(item[1], value))
        ),
    )


def object_of(properties: dict[str, Kind], optional: bool) -> Kind:
    schema = {
        "type": "object",
        "properties": {name: kind[0] for name, kind in properties.items()},
        "required": [] if optional else list(properties),
        "additionalProperties": False,
    }
    names = set(properties)
    return (
        schema,
        lambda value: (
            isinstance(value, dict)
            and (set(value) <= names if optional else set(value) == names)
            and all(properties[name][1](item) for name, item in value.items())
        ),
    )


LEAVES: list[Kind] = [
    ({"type": "boolean"}, lambda value: isinstance(value, bool)),
    ({"type": "null"}, lambda value: value is None),
    (
        {"type": "integer", "minimum": -5, "maximum": 120},
        lambda value: is_int(value) and -5 <= value <= 120,
    ),
    (
        {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 700},
        lambda v: is_int(v) and v % 7 == 0,
    ),
    (
        {"type": "string", "maxLength": 12},
        lambda value: isinstance(value, str) and len(value) <= 12,
    ),
    (
        {"type": "string", "pattern": "^[a-c]{2,4}-[0-9]$"},
        lambda value: (
            isinstance(value, str) and re.fullmatch("[a-c]{2,4}-[0-9]", value) is not None
        ),
    ),
    ({"const": {"a": [1, None]}}, lambda value: value == {"a": [1, None]}),
]
names = st.text('abcé"\\ \n', min_size=1, max_size=5)
kinds = st.recursive(
    st.one_of(
        st.sampled_from(LEAVES),
        st.lists(
            st.one_of(names, st.integers(-99, 99), st.booleans(), st.none()), min_size=1, max_size=4
        ).map(enum_of),
    ),
    lambda inner: st.one_of(
        st.builds(array_of, inner, st.integers(0, 2), st.integers(0, 3)),
        st.builds(object_of, st.dictionaries(names, inner, min_size=1, max_size=4), st.booleans()),
    ),
    max_leaves=8,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kind=kinds, seed=st.integers(0, 2**32))
def test_whatever_is_written_to_a_schema_matches_it(
    grammars: Grammars, kind: Kind, seed: int
) -> None:
    schema, fits = kind
    answer = written(grammars, GrammarKind.JSON_SCHEMA, json.dumps(schema), random.Random(seed))
    assert fits(json.loads(answer)), answer


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kind", "source", "pattern"),
    [
        (GrammarKind.REGEX, r"(red|gr[ae]y) \d{2,3}!?", r"(red|gr[ae]y) \d{2,3}!?"),
        (GrammarKind.REGEX, r"(a+)+b", r"a+b"),
        (GrammarKind.LARK, 'start: "x" item+\nitem: /[0-9]+/ ";"', r"x([0-9]+;)+"),
        (GrammarKind.LARK, "start: <|call|> /[a-z]{2}/", r"<\|call\|>[a-z]{2}"),
        (GrammarKind.GBNF, 'root ::= "yes" | "no" ("," [0-9]{2})*', r"yes|no(,[0-9]{2})*"),
        (GrammarKind.CHOICE, json.dumps(["ja", 'né"in\\', "</call>"]), r'ja|né"in\\|</call>'),
    ],
)
def test_whatever_is_written_to_a_grammar_matches_it(
    grammars: Grammars, kind: GrammarKind, source: str, pattern: str, seed: int
) -> None:
    assert re.fullmatch(pattern, written(grammars, kind, source, random.Random(seed)).decode())


def test_an_answer_may_end_exactly_where_its_grammar_does(grammars: Grammars) -> None:
    constraint = grammars.compile(GrammarKind.REGEX, "ab?")
    for token, before in ((b"a", [TEXTS.index(b"a")]), (b"b", [TEXTS.index(b"b"), END])):
        assert allowed(constraint.mask()) == before
        constraint.accept(TEXTS.index(token))
    assert allowed(constraint.mask()) == [END]
    with pytest.raises(DecodeFailed, match="and then refused by it") as refused:
        constraint.accept(TEXTS.index(b"c"))
    assert refused.value.status == 500, "nobody who asks chooses a token that is not allowed"


def test_a_bound_that_is_reached_in_mid_answer_is_the_grammars_fault(grammars: Grammars) -> None:
    source = 'start: "x" ' + "b? " * 12_000 + '\nb: "y"'
    constraint = grammars.compile(GrammarKind.LARK, source)
    with pytest.raises(ConstraintFailed, match=r"cannot be met: .*Current row has 24001 items"):
        constraint.accept(TEXTS.index(b"x"))


def test_blanks_between_json_tokens_are_bounded(grammars: Grammars) -> None:
    constraint = grammars.compile(GrammarKind.JSON_SCHEMA, '{"type": "object"}')
    num_blanks = 0
    for text in (b"{", b"\n", *[b" "] * 100):
        if TEXTS.index(text) not in allowed(constraint.mask()):
            break
        constraint.accept(TEXTS.index(text))
        num_blanks += 1
    assert num_blanks == 2 + 24


# --- what is refused ------------------------------------------------------------------


def nested_arrays(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


def chain(num_rules: int, arrow: str, first: str) -> str:
    rules = "".join(f"a{at}{arrow}a{at + 1}\n" for at in range(num_rules))
    return f'{first}{arrow}a0\n{rules}a{num_rules}{arrow}"x"'


REFUSED: list[tuple[GrammarKind, str, str]] = [
    (GrammarKind.JSON_SCHEMA, '{"$ref": "#"}', "has no end"),
    (GrammarKind.JSON_SCHEMA, '{"$ref": "#/$defs/x"}', "there is nothing at that place"),
    (GrammarKind.JSON_SCHEMA, "{", "JSON schema is not valid"),
    (GrammarKind.JSON_SCHEMA, "7", "JSON schema is not valid"),
    (GrammarKind.JSON_SCHEMA, nested_arrays(5000), "nested too deeply|recursion"),
    (GrammarKind.JSON_SCHEMA, nested_arrays(150), "recursion"),
    (
        GrammarKind.JSON_SCHEMA,
        json.dumps({"properties": {f"p{at}": {} for at in range(2001)}}),
        "2001 properties",
    ),
    (
        GrammarKind.JSON_SCHEMA,
        json.dumps({"description": "x" * MAX_SCHEMA_CHARS}),
        "at most 262144 are allowed",
    ),
    (
        GrammarKind.JSON_SCHEMA,
        json.dumps(
            {"allOf": [{"anyOf": [{"required": [f"p{a}{b}"]} for b in range(9)]} for a in range(9)]}
        ),
        "too large",
    ),
    (GrammarKind.REGEX, "(", "unclosed group"),
    (GrammarKind.REGEX, r"[^\s\S]", "no text at all"),
    (GrammarKind.REGEX, ".*" * 2000, "too complex"),
    (GrammarKind.REGEX, "a" * (MAX_GRAMMAR_CHARS + 1), "at most 65536 are allowed"),
    (GrammarKind.REGEX, "(?:" * 9000 + "a" + ")" * 9000, "cannot be used"),
    (GrammarKind.LARK, "start: nowhere", "unknown name"),
    (GrammarKind.LARK, "start: start", "no text at all"),
    (GrammarKind.LARK, "start: " + "(" * 9000 + '"a"' + ")" * 9000, "nested"),
    (GrammarKind.LARK, "start: <|unknown|>", "unknown special token"),
    (GrammarKind.GBNF, "root ::= nowhere", "Rule 'nowhere' not found"),
    (GrammarKind.GBNF, 'other ::= "a"', "No 'root' rule"),
    (GrammarKind.GBNF, "root ::= [a-", "not valid GBNF"),
    (GrammarKind.GBNF, "root ::= " + "(" * 9000 + '"a"' + ")" * 9000, "nested too deeply"),
]


@pytest.mark.parametrize(("kind", "source", "reason"), REFUSED)
def test_what_is_no_grammar_or_too_much_is_refused_at_once(
    grammars: Grammars, kind: GrammarKind, source: str, reason: str
) -> None:
    def compile_it() -> None:
        started_s = time.thread_time()  # others' work does not count
        with pytest.raises(BadRequest, match=reason) as refused:
            grammars.compile(kind, source)
        assert time.thread_time() - started_s < REFUSED_WITHIN_S
        assert len(refused.value.message) < 1000

    deep(compile_it)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (GrammarKind.JSON_SCHEMA, json.dumps({"properties": {f"p{at}": {} for at in range(2000)}})),
        (
            GrammarKind.JSON_SCHEMA,
            '{"type": "string", "minLength": 1000000, "maxLength": 1000000000}',
        ),
        (GrammarKind.JSON_SCHEMA, '{"type": "array", "minItems": 1000000000}'),
        (GrammarKind.JSON_SCHEMA, json.dumps({"enum": [f"value {at}" for at in range(10_000)]})),
        (GrammarKind.REGEX, "((a{1,100}){1,100}){1,100}"),
        (GrammarKind.LARK, chain(4500, ": ", "start")),
        (GrammarKind.LARK, "start: A B\nA: /a+/\nB: /a+/"),  # an "a" always follows: see _sent_lark
        (GrammarKind.GBNF, "root ::= a a\na ::= [x]*"),
        (GrammarKind.GBNF, chain(2500, " ::= ", "root")),
    ],
)
def test_large_ones_that_mean_something_compile_at_once(
    grammars: Grammars, kind: GrammarKind, source: str
) -> None:
    def compile_it() -> None:
        started_s = time.thread_time()
        constraint = grammars.compile(kind, source)
        assert time.thread_time() - started_s < COMPILED_WITHIN_S
        for _ in range(20):
            constraint.accept(allowed(constraint.mask())[0])

    deep(compile_it)
