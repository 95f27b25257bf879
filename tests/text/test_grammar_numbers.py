"""Numbers in schemas: exact, or refused by name, and none ends the process.

Each case is compiled in a child process: what native code does not survive is a failed
test here, not the end of the tests.
"""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadRequest
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.answer_format import Opening
from appliance.text.answer_formats import format_of
from appliance.text.calls.syntax import Tool
from appliance.text.grammar import AnswerGrammar, Grammars, TokenTexts
from appliance.text.schema.numbers import MAX_BOUND
from appliance.text.schema.translation import translate

INT64_MIN, INT64_MAX, UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
DOUBLE_MAX = sys.float_info.max
CONST = {"const": INT64_MIN + 1}


def compiled(*cases: tuple[GrammarKind, str]) -> list[dict[str, str]]:
    """An answer to each grammar, or why it is refused."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.text.grammar_in_child"],
        input=json.dumps([(kind.value, source) for kind, source in cases]),
        capture_output=True,
        text=True,
    )
    results = [json.loads(line) for line in child.stdout.splitlines()]
    lost = cases[len(results)] if len(results) < len(cases) else None
    assert child.returncode == 0, f"status {child.returncode} at {lost}: {child.stderr[-500:]}"
    return results


def schema_result(schema: Any) -> dict[str, str]:
    [result] = compiled((GrammarKind.JSON_SCHEMA, json.dumps(schema)))
    return result


# --- what ended the process -----------------------------------------------------------

DEADLY: list[Any] = [
    CONST,
    {"const": INT64_MIN},
    {"const": INT64_MIN + 512},
    {"enum": [INT64_MIN + 1, 1]},
    {"type": "array", "items": CONST, "minItems": 1},
    {"properties": {"a": {"properties": {"b": CONST}}}, "required": ["a"]},
    {"properties": {"const": CONST, "default": CONST}},
    {"type": "integer", "const": -1e19},
    {"type": "integer", "minimum": -1e300, "maximum": -1e19},
    {"type": "integer", "minimum": -1e300, "maximum": INT64_MIN},
    {"allOf": [{"type": "integer", "minimum": -1e300}, {"maximum": -1e19}]},
    {"type": "integer", "minimum": -1e300, "exclusiveMaximum": -MAX_BOUND},
    {"$ref": "#/$defs/a", "$defs": {"a": CONST}},
    {"const": {"const": INT64_MIN + 1}, "$ref": "#/const"},
    {"$ref": "#/properties", "properties": {"const": {"a": INT64_MIN + 1}}},
    {"$ref": "#/default", "default": CONST},
    {"$ref": "#/examples/0", "examples": [CONST]},
]


@pytest.mark.parametrize("schema", DEADLY, ids=json.dumps)
def test_a_number_at_the_end_of_64_bits_is_refused(schema: Any) -> None:
    assert "refused" in schema_result(schema)


@pytest.mark.parametrize(
    "source",
    [
        f"start: %json {json.dumps(CONST)}",
        f"start: x\nx: %json\t\n{json.dumps({'items': CONST, 'minItems': 1})}",
        f'start: "a" x\nx: %json {{"const": 1}} | %json {json.dumps(CONST)}',
        # two forms that Lark's own way of writing does not have
        json.dumps({"grammars": [{"json_schema": CONST}]}),
        " \n" + json.dumps({"grammars": [{"lark_grammar": "start: %json " + json.dumps(CONST)}]}),
    ],
)
def test_nor_does_one_inside_lark_end_the_process(source: str) -> None:
    [result] = compiled((GrammarKind.LARK, source))
    assert "refused" in result


NUMBERS = [INT64_MIN, INT64_MAX, UINT64_MAX, -1e19, 1e19, -1e300, 1e300, -MAX_BOUND, MAX_BOUND]
NUMBERS += [10**30, -(10**30), INT64_MIN - 1, 2**53 + 1, -1, 0, 1, 0.5, -9.2e18]
NUMERIC = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "const", "multipleOf"]
HOLDERS = ["items", "anyOf", "allOf", "properties", "$defs", "const", "default"]


def random_schema(chance: random.Random, depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {key: chance.choice(NUMBERS) for key in chance.sample(NUMERIC, 2)}
    schema["type"] = chance.choice(["integer", "number", ["integer", "null"]])
    if depth:
        inner = random_schema(chance, depth - 1)
        holder = chance.choice(HOLDERS)
        schema[holder] = [inner, inner] if holder.endswith("Of") else {"a": inner, **inner}
    if chance.random() < 0.5:
        schema["$ref"] = chance.choice(["#", *(f"#/{name}" for name in HOLDERS), "#/$defs/a"])
    return schema


def test_no_schema_of_extreme_numbers_ends_the_process() -> None:
    chance = random.Random(21)
    schemas = [random_schema(chance, chance.randint(0, 3)) for _ in range(400)]
    compiled(*((GrammarKind.JSON_SCHEMA, json.dumps(schema)) for schema in schemas))


# --- exact, or refused ----------------------------------------------------------------


def test_constants_come_out_as_they_are_or_are_refused() -> None:
    exact: list[float] = [0, -1, 2**53, -(2**53), 2**60, -(2**60), MAX_BOUND, -MAX_BOUND, INT64_MAX]
    exact += [1.0, 0.1, -2.5, 1e-9, 0.30000000000000004, 1e15, 2.0**60, -9.223372036854775e18]
    results = compiled(
        *((GrammarKind.JSON_SCHEMA, json.dumps({"const": number})) for number in exact),
        *((GrammarKind.JSON_SCHEMA, json.dumps({"enum": [{"a": n}]})) for n in exact),
    )
    answers = [json.loads(result.get("answer", "null")) for result in results]
    assert answers == [*exact, *({"a": number} for number in exact)]


@pytest.mark.parametrize(
    "number",
    [1234567890123456789, -1234567890123456789, 2**53 + 1, INT64_MAX - 1, UINT64_MAX, 10**30],
)
def test_what_cannot_be_kept_is_named_with_its_place(number: int) -> None:
    result = schema_result({"properties": {"id": {"enum": ["", {"a": [number]}]}}})
    assert str(number) in result["refused"]
    assert "#/properties/id/enum/1/a/0" in result["refused"]
    assert "as a string" in result["refused"]


def test_so_is_a_fraction_that_would_be_changed() -> None:
    result = schema_result({"const": 123456789.12345679})
    assert "123456789.12345679 (#/const) cannot be kept exactly" in result["refused"]


def test_numbers_that_nothing_is_compiled_of_may_be_any() -> None:
    notes = {"default": UINT64_MAX, "examples": [INT64_MIN, 1e300]}
    named = {"properties": {"default": {"const": 1, **notes}}, "required": ["default"]}
    result = schema_result({"type": "object", **named, **notes, "additionalProperties": False})
    assert json.loads(result["answer"]) == {"default": 1}


def test_of_any_numbers_none_comes_out_changed() -> None:
    chance = random.Random(7)
    numbers = [
        *(chance.uniform(-1, 1) * 10 ** chance.randint(-300, 18) for _ in range(150)),
        *(round(chance.uniform(-1e9, 1e9), chance.randint(0, 8)) for _ in range(150)),
        *(chance.randint(-(2**64), 2**64) >> chance.randint(0, 60) for _ in range(150)),
    ]
    cases = [(GrammarKind.JSON_SCHEMA, json.dumps({"const": number})) for number in numbers]
    pairs = list(zip(numbers, compiled(*cases), strict=True))
    answered = [(number, result["answer"]) for number, result in pairs if "answer" in result]
    assert all(json.loads(answer) == number for number, answer in answered)
    assert len(answered) > len(numbers) // 2


def test_a_schema_inside_lark_is_bounded_too() -> None:
    schemas = [{"const": 2**53 + 1}, {"type": "integer", "minimum": INT64_MIN}]
    refused, taken = compiled(
        *((GrammarKind.LARK, f'start: "a" x\nx: %json {json.dumps(one)} "b"') for one in schemas)
    )
    assert str(2**53 + 1) in refused["refused"]
    assert re.fullmatch("a-[0-9]+b", taken["answer"])


@pytest.mark.parametrize("name", ["%json", "%json 7 {"])
def test_text_in_lark_that_only_looks_like_a_schema_stays(name: str) -> None:
    [result] = compiled((GrammarKind.LARK, f'start: "{name}" // %json {{\n'))
    assert result == {"answer": name}


def test_the_parameters_of_a_tool_are_bounded() -> None:
    texts = [*(bytes([value]) for value in range(256)), b"<|end|>"]
    grammars = Grammars(
        TokenTexts(texts=texts, special=[256], end_tokens=[256], bos=None, tokenize=list)
    )
    tool = Tool("count", {"properties": {"id": CONST}})
    form = format_of("<tool_call>")
    with pytest.raises(BadRequest, match=r"#/properties/id/const"):
        grammars.compile_answer(AnswerGrammar(form=form, opening=Opening.FRESH, tools=[tool]))


# --- bounds ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (INT64_MIN, INT64_MAX),
        (0, UINT64_MAX),
        (-DOUBLE_MAX, DOUBLE_MAX),
        (INT64_MIN, None),
        (None, INT64_MAX),
        (None, DOUBLE_MAX),
        (-DOUBLE_MAX, None),
    ],
)
def test_bounds_of_64_bits_and_of_doubles_are_taken(
    kind: str, low: float | None, high: float | None
) -> None:
    ends = {"minimum": low, "maximum": high}
    schema = {"type": kind, **{name: value for name, value in ends.items() if value is not None}}
    exclusive = {"exclusiveM" + name[1:]: value for name, value in schema.items() if name != "type"}
    assert "answer" in schema_result(schema)
    assert "answer" in schema_result({"type": kind, **exclusive})


@pytest.mark.parametrize(
    "schema",
    [
        {"minimum": 1e19},
        {"exclusiveMinimum": MAX_BOUND},
        {"maximum": -1e19},
        {"exclusiveMaximum": -MAX_BOUND},
        {"minimum": 10**400},
    ],
    ids=str,
)
def test_a_bound_that_leaves_nothing_that_is_held_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"leaves only numbers beyond") as refused:
        translate({"items": schema})
    assert f"#/items/{next(iter(schema))}" in refused.value.message
    assert len(refused.value.message) < 400


@given(value=st.integers(-(2**63) - 4096, 2**63 + 4096) | st.floats(-1e19, 1e19))
def test_a_bound_is_a_double_and_never_wider(value: float) -> None:
    for name, widest in (("minimum", 1), ("maximum", -1)):
        for exclusive in (False, True):
            key = f"exclusiveM{name[1:]}" if exclusive else name
            try:
                held = translate({key: value}).schema
            except BadRequest:
                assert value * widest >= MAX_BOUND
                continue
            assert isinstance(held, dict)
            bound = held[key]
            assert float(bound) == bound
            assert bound * widest >= value * widest or abs(value) > MAX_BOUND
            assert abs(bound) <= MAX_BOUND
            if exclusive and abs(value) >= 2**53:
                assert bound * widest > value * widest, "adding 1 to a double changes nothing"
            assert math.isfinite(bound)
