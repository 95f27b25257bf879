"""Schemas, grammars, expressions and values that were, or look, dangerous: what the fuzzer
mutates.

Knows no worker.
"""

from __future__ import annotations

from typing import Any

INT64_MIN = -(2**63)

NUMBERS: list[Any] = [0, -1, 1, 2, 0.5, -0.0, 1e-9, 1e-320, 1e308, -1e308, 2**31, 2**53 + 1]
NUMBERS += [INT64_MIN, INT64_MIN + 1, 2**63 - 1, 2**64, 10**30, -(10**30), 1e19, -1e19, 999983]
OTHERS: list[Any] = [None, True, False, "", "a", "\0", "é\U0001f600", [], {}, [[]], [0], {"a": 0}]
VALUES = NUMBERS + OTHERS

PATTERNS = [
    *("a", "^a", "a$", "^[a-z]{1,9}$", "(a|b)*c", ".*", "(?=a)b", r"\bw\b", r"(a)\1", "[", "("),
    *("(a+)+b", "((a{1,100}){1,100}){1,100}", "a{1000000}", r"[^\s\S]", r"\p{L}+", r"\d+\.\d*"),
    *(
        "(?i)x",
        "(?s:.*)",
        "^$",
        "[a-",
        "é+",
        r"\x00",
        "(?P<n>a)",
        "a{,3}",
        "[[:alpha:]]",
        "*",
        "\\",
    ),
]
FORMATS = ["date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri"]
FORMATS += ["uuid", "regex", "int32", "unknown", ""]
REFERENCES = [
    "#",
    "#/$defs/a",
    "#/$defs/b",
    "#/properties/a",
    "#/nowhere",
    "#a",
    "http://x/y",
    "%",
    "#/%",
]

SCHEMAS: list[Any] = [
    {"const": INT64_MIN + 1},
    {"enum": [INT64_MIN + 1, 1]},
    {"type": "array", "items": {"const": INT64_MIN}, "minItems": 1},
    {"type": "integer", "minimum": -1e300, "maximum": -1e19},
    {"$ref": "#/default", "default": {"const": INT64_MIN + 1}},
    {"$ref": "#"},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 2},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {
        "allOf": [{"$ref": "#/$defs/a"}, {"type": "object"}],
        "$defs": {"a": {"allOf": [{"$ref": "#"}]}},
    },
    {"properties": {f"p{at}": {} for at in range(60)}, "minProperties": 3},
    {"type": "object", "additionalProperties": {"$ref": "#"}},
    {"anyOf": [{"type": "string"}] * 40},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": at}}} for at in range(30)]},
    {"allOf": [{"anyOf": [{"required": [f"p{a}{b}"]} for b in range(5)]} for a in range(5)]},
    {"patternProperties": {"^a": {}, "b$": {"type": "string"}}, "additionalProperties": False},
    {"type": "string", "minLength": 10**6, "maxLength": 10**9},
    {"type": "array", "minItems": 10**9},
    {"type": "number", "multipleOf": 0.01, "minimum": 0.005, "maximum": 1e18},
    {
        "allOf": [
            {"multipleOf": 9973},
            {"multipleOf": 9967},
            {"multipleOf": 9949},
            {"multipleOf": 0.3},
        ]
    },
    {"type": "string", "format": "date-time", "pattern": "Z$"},
    {"not": {"not": {}}, "if": {}, "then": False, "uniqueItems": True, "contains": {}},
    {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "$id": "urn:x",
        "exclusiveMinimum": True,
    },
    {"x-guidance": {"lenient": True, "whitespace_pattern": "("}},
    True,
    {},
]

LARKS = [
    'start: "a" start | "b"',
    "start: start",
    "start: A B\nA: /a+/\nB: /a+/",
    'start: a*\na: b*\nb: "x"*',
    'start: (("a"*)*)*',
    'start: x{1000}\nx: "x" | ',
    'start: "x"{0,1000000}',
    "start: /(?s:.*)/ & ~/a/",
    "start: A B\nA: /[a-z]+/\nB: A A?",
    'start: t[lazy] "z"\nt[suffix="end"]: /.*/',
    'start: %json {"const": -9223372036854775807}',
    'start: %json {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]} "a"',
    'start: %regex {"substring_words": "a b c"}',
    'start: %lark {\nstart: "a"\n}',
    "start: <|endoftext|> | <[0-9]> | <[99999999]>",
    'start: "\\u0000" | "\\xff" | "é"',
    "start[capture, max_tokens=3]: /.*/",
    '%ignore / +/\nstart: "a" "b"',
    'start: a\na: "x" a "y" |',
    'start: a0\na0: a1 a1\na1: a2 a2\na2: a3 a3\na3: a4 a4\na4: "x" |',
    "start: @0 | @nowhere",
    '{"grammars": [{"json_schema": {"const": -9223372036854775807}}]}',
]
GBNFS = [
    'root ::= "a" root | "b"',
    "root ::= root",
    "root ::= a a\na ::= [x]*",
    "root ::= [^a]*",
    'root ::= ("a"* | "b"+)* [0-9]{2,3}',
    'root ::= a\na ::= b | "x"\nb ::= a a |',
    'root ::= "\\x00" | "\\u00e9" | [\\]\\\\]',
    "root ::= .*",
    'root ::= "a"{0,99999}',
    "root ::= ((((",
    "other ::= x",
]
TEXTS = [
    "",
    "a",
    "\0",
    "é",
    "\U0001f600" * 5,
    "<|im_end|>",
    "a" * 3000,
    '"',
    "\\",
    "\r\n",
    "%json {",
]
TEXTS += ['"a"', "|", "(", ")", "*", "?", "{2,}", ": ", " ::= ", "\n", "~", "&", "[", "]", "start"]
