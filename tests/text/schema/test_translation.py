"""What of a JSON schema is compiled, what is left to the model and named, and what is
refused.
"""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema_rs
import pytest

from appliance.errors import BadRequest
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.grammar import Grammars, TokenTexts
from appliance.text.schema.translation import translate

TEXTS = [*(bytes([value]) for value in range(256)), b"<|end|>"]
END = len(TEXTS) - 1
MAX_TOKENS = 3000
STRING = {"type": "string"}
WORDS = {"type": "string", "maxLength": 4}
NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(
        TokenTexts(texts=TEXTS, special=[END], end_tokens=[END], bos=None, tokenize=list)
    )


def unenforced(grammars: Grammars, schema: Any) -> list[str]:
    return list(grammars.compile(GrammarKind.JSON_SCHEMA, json.dumps(schema)).unenforced)


def written(grammars: Grammars, schema: Any, chance: random.Random) -> Any:
    """A random answer that ends soon; None where it did not."""
    constraint = grammars.compile(GrammarKind.JSON_SCHEMA, json.dumps(schema))
    answer = b""
    for _ in range(MAX_TOKENS):
        bits = int.from_bytes(constraint.mask(), "little")
        if bits >> END & 1:
            return json.loads(answer)
        may_come = [token for token in range(END) if bits >> token & 1]
        closing = [token for token in b'"}]' if token in may_come]
        token = closing[0] if closing and chance.random() < 0.4 else chance.choice(may_come)
        constraint.accept(token)
        answer += TEXTS[token]
    return None


# --- what asks for nothing, or is an annotation ---------------------------------------

NOTHING_LEFT_OUT: list[Any] = [
    True,
    {},
    {"title": "a", "description": "b", "default": 1, "examples": [1], "$comment": "c"},
    {"deprecated": True, "readOnly": True, "writeOnly": True, "contentEncoding": "base64"},
    {"x-order": 3, "x-guidance": {"lenient": True, "what": 1}, "nullable": True, "example": 1},
    {"discriminator": {"propertyName": "kind"}, "xml": {}, "externalDocs": {}, "anything": 1},
    {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/s"},
    {"$schema": "my own", "$vocabulary": {}, "$anchor": "a", "$dynamicAnchor": "b"},
    *({"type": "string", "format": name} for name in ("password", "binary", "regex", "phone", "")),
    *({"type": "integer", "format": name} for name in ("int32", "int64", "date")),
    {"type": "number", "format": "double"},
    {"type": "string", "format": None, "pattern": None, "enum": None, "required": None},
    {"type": "array", "uniqueItems": False, "minItems": 0},
    {"type": "array", "uniqueItems": True, "maxItems": 1},
    {"contains": {}, "minContains": 0},
    {"minContains": 2, "maxContains": 3, "then": {"type": "string"}},
    {"not": False, "allOf": [], "required": [], "pattern": "", "additionalProperties": True},
    {"propertyNames": {"type": "string"}, "unevaluatedProperties": True, "unevaluatedItems": {}},
    {"dependentRequired": {"a": []}, "dependentSchemas": {"a": True}, "dependencies": {"a": {}}},
    {"maxItems": 10**30, "maxLength": 1e300, "minProperties": 0.0},
    {"type": "any"},
]


@pytest.mark.parametrize("schema", NOTHING_LEFT_OUT, ids=json.dumps)
def test_what_asks_for_nothing_is_taken_and_not_named(grammars: Grammars, schema: Any) -> None:
    assert unenforced(grammars, schema) == []
    in_object = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    assert unenforced(grammars, in_object) == []


def test_annotations_never_reach_the_compiler() -> None:
    schema = {"type": "object", "properties": {"uniqueItems": {"title": "x", "x-y": 1, **STRING}}}
    assert translate(schema).schema == {
        "type": "object",
        "properties": {"uniqueItems": {"type": "string"}},
    }


# --- what cannot be enforced ----------------------------------------------------------

LEFT_OUT: list[tuple[Any, list[str]]] = [
    ({"type": "array", "items": STRING, "uniqueItems": True}, ["#/uniqueItems"]),
    ({"not": {}}, ["#/not"]),
    ({"not": STRING}, ["#/not"]),
    ({"if": STRING, "then": {"minLength": 2}}, ["#/if", "#/then"]),
    ({"if": STRING, "then": {"minLength": 2}, "else": False}, ["#/if", "#/then", "#/else"]),
    ({"contains": STRING}, ["#/contains"]),
    ({"contains": STRING, "maxContains": 2}, ["#/contains", "#/maxContains"]),
    ({"dependentRequired": {"a": ["b"]}}, ["#/dependentRequired"]),
    ({"dependentSchemas": {"a": {"required": ["b"]}}}, ["#/dependentSchemas"]),
    ({"dependencies": {"a": ["b"]}}, ["#/dependencies"]),
    ({"propertyNames": {"maxLength": 3}}, ["#/propertyNames"]),
    (
        {"properties": {"a": STRING}, "propertyNames": {"enum": ["a"]}},
        ["#/propertyNames"],
    ),
    (
        {"allOf": [{"properties": {}}], "unevaluatedProperties": False},
        ["#/unevaluatedProperties"],
    ),
    ({"prefixItems": [STRING], "anyOf": [{}], "unevaluatedItems": False}, ["#/unevaluatedItems"]),
    ({"type": "object", "properties": {"a": STRING}, "minProperties": 1}, ["#/minProperties"]),
    ({"patternProperties": {"^[ab]$": {}}, "minProperties": 2}, ["#/minProperties"]),
    ({"required": ["a"], "minProperties": 2}, ["#/minProperties"]),  # one name may come twice
    ({"patternProperties": {"^a": STRING, "b$": {}}}, ["#/patternProperties"]),
    (
        {"patternProperties": {"(?=a)": STRING}, "additionalProperties": False},
        ["#/patternProperties", "#/additionalProperties"],
    ),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ["#/oneOf"]),
    ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, ["#/oneOf"]),
    ({"$ref": "https://example.com/other.json#/$defs/a"}, ["#/$ref"]),
    ({"properties": {"a": {"$ref": "other.json"}}}, ["#/properties/a/$ref"]),
    ({"type": "string", "pattern": "^(?!no)[a-z]+$"}, ["#/pattern"]),
    ({"type": "string", "pattern": r"\bword\b"}, ["#/pattern"]),
    ({"type": "string", "pattern": r"(a)\1"}, ["#/pattern"]),
    ({"type": "file"}, ["#/type"]),
    ({"type": ["string", "date"]}, ["#/type"]),
    ({"type": "integer", "multipleOf": 999983}, ["#/multipleOf"]),
    ({"type": "number", "multipleOf": 1000.03}, ["#/multipleOf"]),
    ({"type": "number", "multipleOf": 1e-300}, ["#/multipleOf"]),
    (
        {"properties": {"a/b~c": {"type": "array", "uniqueItems": True}}},
        ["#/properties/a~1b~0c/uniqueItems"],
    ),
    (
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"$ref": "#/$defs/node", "maxProperties": 3}},
                    "additionalProperties": False,
                }
            },
        },
        ["#/$defs/node/properties/next/maxProperties"],
    ),
]


@pytest.mark.parametrize(("schema", "places"), LEFT_OUT, ids=lambda value: json.dumps(value)[:60])
def test_what_cannot_be_enforced_is_left_out_and_named(
    grammars: Grammars, schema: Any, places: list[str]
) -> None:
    assert unenforced(grammars, schema) == places
    keyword = places[0].rpartition("/")[2]
    with pytest.raises(BadRequest, match="cannot be enforced, and 'strict' demands it") as refused:
        grammars.compile(GrammarKind.JSON_SCHEMA, json.dumps(schema), is_strict=True)
    assert f"'{keyword}' ({places[0]})" in refused.value.message


def test_only_what_is_used_is_named(grammars: Grammars) -> None:
    schema = {"$defs": {"unused": {"not": {}}, "a": {"uniqueItems": True}}, "$ref": "#/$defs/a"}
    assert unenforced(grammars, schema) == ["#/$defs/a/uniqueItems"]
    named = {"properties": {"not": STRING, "if": STRING}, "enum": [{"not": "a"}]}
    assert unenforced(grammars, named) == []


# --- what can be said otherwise -------------------------------------------------------

SAID_OTHERWISE: list[Any] = [
    {"type": "object", "properties": {"a": WORDS}, "unevaluatedProperties": False},
    {"type": "array", "prefixItems": [WORDS], "unevaluatedItems": False},
    {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": WORDS},
    {"type": "object", "additionalProperties": WORDS, "propertyNames": {"pattern": "^[ab]{1,2}$"}},
    {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/color"},
        "additionalProperties": {"type": "integer"},
        "$defs": {"color": {"enum": ["red", "blue"], "type": "string", "title": "Color"}},
    },
    {"oneOf": [{"type": "integer"}, WORDS]},
    {"oneOf": [{"const": 1}, {"enum": [2, "a"]}, {"type": "null"}]},
    {
        "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
        "$defs": {
            "cat": {"type": "object", "properties": {"k": {"const": "c"}}, "required": ["k"]},
            "dog": {"type": "object", "properties": {"k": {"const": "d"}}, "required": ["k"]},
        },
    },
    {"anyOf": [WORDS, {"type": "null"}], "oneOf": [{"type": "null"}, {"type": "boolean"}]},
    {"$ref": "#word", "$defs": {"w": {"$anchor": "word", **WORDS}}},
    {"$dynamicRef": "#word", "$defs": {"w": {"$dynamicAnchor": "word", **WORDS}}},
    {"$id": "https://a.b/c", "$ref": "d", "$defs": {"w": {"$id": "https://a.b/d", **WORDS}}},
    {"$ref": "#/components/schemas/a%20b~1c", "components": {"schemas": {"a b/c": WORDS}}},
    {"allOf": [{"$ref": "#/$defs/w"}], "$ref": "#/$defs/v", "$defs": {"w": WORDS, "v": {}}},
]


@pytest.mark.parametrize("schema", SAID_OTHERWISE, ids=lambda schema: json.dumps(schema)[:60])
def test_what_can_be_said_otherwise_is_kept_to(grammars: Grammars, schema: Any) -> None:
    assert unenforced(grammars, schema) == []
    validator = jsonschema_rs.validator_for(schema)
    for seed in range(6):
        answer = written(grammars, schema, random.Random(seed))
        assert validator.is_valid(answer), answer


@pytest.mark.parametrize(
    ("schema", "same"),
    [
        (
            {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
            {"type": "integer", "minimum": 1, "exclusiveMinimum": 1},
        ),
        (
            {"properties": {"a": {"required": True}, "b": {}}, "required": ["b"]},
            {"properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
        ),
        (
            {"items": [STRING, {}], "additionalItems": False},
            {"prefixItems": [STRING, {}], "items": False},
        ),
        ({"type": "array", "minItems": 2.0}, {"type": "array", "minItems": 2}),
    ],
)
def test_older_drafts_and_floats_mean_the_same(schema: Any, same: Any) -> None:
    assert translate(schema).schema == same


# --- what is refused, with its place --------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (False, "allows nothing at all"),
        ({"items": 3}, "#/items must be a schema"),
        ({"properties": []}, "#/properties must be an object with a schema for each name"),
        ({"properties": {"a": {"minimum": "3"}}}, "#/properties/a/minimum must be a number"),
        ({"minItems": -1}, "#/minItems must be a whole number"),
        ({"minLength": 10**12}, "no answer is that long"),
        ({"multipleOf": 0}, "greater than 0"),
        ({"type": 3}, "#/type must be the name of a type"),
        ({"enum": []}, "#/enum must be a list of at least one value"),
        ({"anyOf": []}, "#/anyOf must be a list of at least one schema"),
        ({"required": ["a", 1]}, "#/required must be a list of names"),
        ({"$ref": "#/$defs/no"}, r"refers to '#/\$defs/no' \(#/\$ref\), and there is nothing"),
        ({"$ref": 3}, r"#/\$ref must be a string"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        translate(schema)


@pytest.mark.parametrize(
    ("schema", "place", "start"),
    [
        ({"$ref": "#"}, "#", "#"),
        (
            {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
            "#/properties/a",
            "#",
        ),
        ({"type": "array", "minItems": 1, "items": {"$ref": "#"}}, "#/items", "#"),
        (
            {"type": "array", "minItems": 2, "prefixItems": [{}, {"$ref": "#"}]},
            "#/prefixItems/1",
            "#",
        ),
        ({"$ref": "#/$defs/node", "$defs": {"node": NODE}}, "#/$defs/node/properties/next", "node"),
        (
            {
                "type": "object",
                "required": ["a"],
                "additionalProperties": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
            },
            "#/additionalProperties/anyOf/0",
            "#",
        ),
        (
            {
                "allOf": [{"required": ["a"]}, {"properties": {"a": {"$ref": "#"}}}],
                "type": "object",
            },
            "#/allOf/1/properties/a",
            "#",
        ),
    ],
)
def test_a_schema_that_requires_itself_is_refused_with_the_place(
    schema: Any, place: str, start: str
) -> None:
    with pytest.raises(BadRequest, match="has no end") as refused:
        translate(schema)
    assert f": {place} is required and leads back to" in refused.value.message
    assert start in refused.value.message


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#"}}, "type": "object"},
        {"items": {"$ref": "#"}, "type": "array"},
        {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},  # or no object at all
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"], "const": 1},
    ],
)
def test_one_that_may_end_is_taken(grammars: Grammars, schema: Any) -> None:
    assert unenforced(grammars, schema) == []


def test_an_answer_cannot_get_into_a_part_without_an_end(grammars: Grammars) -> None:
    schema = {
        "anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}, {"type": "boolean"}],
        "$defs": {"node": NODE},
    }
    for seed in range(4):
        assert written(grammars, schema, random.Random(seed)) in (None, True, False)
    assert translate(schema).schema["anyOf"][0] is False


# --- any schema -----------------------------------------------------------------------

NAMES = ["a", "b", "ab"]


def random_schema(chance: random.Random, depth: int) -> Any:
    """Of what people write, in combinations that nobody does."""

    def inner() -> Any:
        return random_schema(chance, depth - 1)

    small = chance.randint(0, 2)
    schema: dict[str, Any] = {}
    for _ in range(chance.randint(0, 2)):
        schema |= chance.choice(
            [
                {
                    "type": chance.choice(
                        ["string", "integer", "object", "array", ["null", "number"]]
                    )
                },
                {"enum": chance.sample([1, "a", None, [1], {"a": 2}, True, 2.5], 2)},
                {"const": chance.choice(["a", 0, None])},
                {"minLength": small, "maxLength": small + 2},
                {"pattern": chance.choice(["^a", "[ab]{2}$", "^(?!a)"])},
                {"minimum": small, "exclusiveMaximum": small + 7},
                {"multipleOf": chance.choice([2, 0.5])},
                {"uniqueItems": True},
                {"format": chance.choice(["date", "uuid", "int32"])},
            ]
        )
    for _ in range(chance.randint(0, 2) if depth else 0):
        schema |= chance.choice(
            [
                {"properties": {name: inner() for name in chance.sample(NAMES, 2)}},
                {"required": chance.sample(NAMES, 1)},
                {"additionalProperties": chance.choice([False, inner()])},
                {"patternProperties": {"^a": inner()}},
                {"propertyNames": chance.choice([{"enum": NAMES}, {"pattern": "^a"}])},
                {"minProperties": small, "maxProperties": small + 1},
                {"items": inner(), "minItems": small, "maxItems": small + 1},
                {"prefixItems": [inner()], "items": chance.choice([False, inner()])},
                {"anyOf": [inner(), inner()]},
                {"oneOf": [inner(), inner()]},
                {"allOf": [inner(), inner()]},
                {"unevaluatedProperties": False},
                {"$ref": chance.choice(["#", "#/$defs/d"])},
            ]
        )
    return schema


def test_whatever_is_written_fits_where_nothing_was_left_out(grammars: Grammars) -> None:
    chance = random.Random(4)
    num_written = 0
    for _ in range(400):
        schema = {**random_schema(chance, 3), "$defs": {"d": random_schema(chance, 1)}}
        try:
            if unenforced(grammars, schema):
                continue
        except BadRequest:
            continue
        answer = written(grammars, schema, chance)
        if answer is not None:
            num_written += 1
            validator = jsonschema_rs.validator_for(schema, validate_formats=True)
            assert validator.is_valid(answer), (schema, answer)
    assert num_written > 100
