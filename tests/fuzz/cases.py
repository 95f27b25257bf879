"""Cases by their number: each is a request's path and its body, the same at every run.

Knows no worker.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fuzz.corpus import (
    FORMATS,
    GBNFS,
    LARKS,
    NUMBERS,
    PATTERNS,
    REFERENCES,
    SCHEMAS,
    TEXTS,
    VALUES,
)

_SCHEMA_KEYS = [
    *("type", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "$ref"),
    *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"),
    *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
    *("minProperties", "maxProperties", "dependentRequired", "dependentSchemas", "$defs", "$id"),
    *("unevaluatedProperties", "unevaluatedItems", "minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "$anchor"),
    *("title", "default", "x-guidance", "$schema", "nullable", "$dynamicRef"),
]
_TYPES = ["null", "boolean", "object", "array", "number", "integer", "string", "file"]
_SAMPLERS = [
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "top_n_sigma", "xtc_probability"),
    *("xtc_threshold", "repeat_penalty", "repeat_last_n", "frequency_penalty", "presence_penalty"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "mirostat"),
    *("mirostat_tau", "mirostat_eta", "dynatemp_range", "dynatemp_exponent", "seed", "min_keep"),
    *("max_tokens", "n", "best_of", "logprobs", "ignore_eos", "echo", "n_probs", "n_predict"),
]
_PLAUSIBLE: dict[str, list[Any]] = {
    "temperature": [0, 1e-9, 0.7, 1.0, 2.0],
    "top_p": [0, 1e-9, 0.5, 1],
    "top_k": [-1, 0, 1, 40, 2**31 - 1],
    "min_p": [0, 0.5, 1],
    "typical_p": [1e-9, 0.5, 1],
    "top_n_sigma": [-1, 0, 1e-9, 1.5, 100],
    "xtc_probability": [0, 0.5, 1],
    "xtc_threshold": [0, 1e-9, 0.1, 0.5, 1],
    "repeat_penalty": [1e-6, 0.5, 1.0, 1.5, 100],
    "repeat_last_n": [-1, 0, 1, 64, 2**31 - 1],
    "frequency_penalty": [-2, 0, 2],
    "presence_penalty": [-2, 0, 2],
    "dry_multiplier": [0, 0.8, 100],
    "dry_base": [1, 1.75, 100],
    "dry_allowed_length": [0, 1, 2, 2**31 - 1],
    "dry_penalty_last_n": [-1, 0, 1, 2**31 - 1],
    "mirostat": [0, 1, 2],
    "mirostat_tau": [1e-9, 5, 100],
    "mirostat_eta": [1e-9, 0.1, 1],
    "dynatemp_range": [0, 0.5, 2],
    "dynatemp_exponent": [1e-9, 1, 100],
    "seed": [-1, 0, 1, 2**31, 2**32 - 1, 2**63 - 1],
    "max_tokens": [0, 1, 3],
    "n": [1, 2, 4],
    "best_of": [1, 4],
    "logprobs": [0, 1, 5],
    "ignore_eos": [True, False],
}
_ORDER = ["top_k", "min_p", "temperature", "dry", "xtc", "penalties", "top_p", "typ_p", "nothing"]


@dataclass(frozen=True)
class Case:
    """`body` is JSON as it is sent, not always valid."""

    number: int
    kind: str
    path: str
    body: str


def case_of(seed: int, number: int) -> Case:
    """Deterministic."""
    chance = random.Random(f"{seed}:{number}")
    kind = chance.choice(list(_KINDS))
    fields = _KINDS[kind](chance)
    body: dict[str, Any] = {"max_tokens": chance.randint(1, 4)}
    if chance.random() < 0.3:
        body |= _samplers(chance)
    if kind != "samplers" and chance.random() < 0.1:
        body["n"] = chance.choice([2, 3])
    if chance.random() < 0.2:
        body["stream"] = True
    body |= fields
    path = "/v1/completions"
    if chance.random() < 0.1 or "tools" in body:
        path = "/v1/chat/completions"
        body["messages"] = [{"role": "user", "content": "Hi"}]
        body.pop("logprobs", None)
    else:
        body["prompt"] = chance.choice(["It", "", [1, 2, 3], ["a", "b"], "x " * 40])
    return Case(number, kind, path, json.dumps(body))


# --- schemas --------------------------------------------------------------------------


def _schema(chance: random.Random, depth: int = 3) -> Any:
    if chance.random() < 0.08 or depth < 0:
        return chance.choice([True, {}, {"type": chance.choice(_TYPES)}, chance.choice(VALUES)])
    keys = chance.sample(_SCHEMA_KEYS, chance.randint(1, 4))
    return {key: _value_of(key, chance, depth - 1) for key in keys}


def _value_of(key: str, chance: random.Random, depth: int) -> Any:
    if chance.random() < 0.04:
        return chance.choice(VALUES)
    if key == "type":
        return chance.choice([chance.choice(_TYPES), chance.sample(_TYPES, 2)])
    if key in ("enum", "required"):
        return [chance.choice(VALUES) for _ in range(chance.randint(1, 4))]
    if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        return [_schema(chance, depth) for _ in range(chance.randint(1, 3))]
    if key in ("properties", "$defs", "dependentSchemas", "dependentRequired"):
        return {name: _schema(chance, depth) for name in chance.sample(["a", "b", "é", ""], 2)}
    if key == "patternProperties":
        return {
            chance.choice(PATTERNS): _schema(chance, depth) for _ in range(chance.randint(1, 2))
        }
    if key in ("$ref", "$dynamicRef", "$id", "$anchor", "$schema"):
        return chance.choice(REFERENCES)
    if key == "pattern":
        return chance.choice(PATTERNS)
    if key == "format":
        return chance.choice(FORMATS)
    if key.startswith(("min", "max")) and key not in ("minimum", "maximum"):
        return chance.choice([0, 1, 2, 5, 10**6, *NUMBERS])
    if key.endswith("imum") or key == "multipleOf" or key in ("const", "default", "title"):
        return chance.choice(VALUES if chance.random() < 0.3 else NUMBERS)
    return _schema(chance, depth)


def _mutated_tree(tree: Any, chance: random.Random) -> Any:
    """One part of it replaced, removed, doubled or wrapped."""
    tree = copy.deepcopy(tree)
    holders = [holder for holder in _holders(tree) if holder]
    if not holders:
        return _schema(chance)
    holder = chance.choice(holders)
    key = chance.choice(list(holder) if isinstance(holder, dict) else list(range(len(holder))))
    what = chance.random()
    if what < 0.4:
        holder[key] = chance.choice(VALUES)
    elif what < 0.6:
        holder[key] = _schema(chance, 2)
    elif what < 0.75:
        del holder[key]
    elif what < 0.9:
        holder[key] = {chance.choice(["items", "not", "const", "a"]): holder[key]}
    elif isinstance(holder, dict):
        holder[chance.choice(_SCHEMA_KEYS)] = holder[key]
    else:
        holder += holder[:50]
    return tree


def _holders(tree: Any) -> list[Any]:
    found, waiting = [], [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict | list):
            found.append(part)
            waiting += part.values() if isinstance(part, dict) else part
    return found


def _any_schema(chance: random.Random) -> Any:
    schema = _schema(chance) if chance.random() < 0.5 else chance.choice(SCHEMAS)
    for _ in range(chance.choice([0, 1, 1, 2, 4])):
        schema = _mutated_tree(schema, chance)
    if chance.random() < 0.02:
        for _ in range(chance.choice([60, 130, 400])):
            schema = {chance.choice(["items", "not", "anyOf"]): schema}
    return schema


def _schema_fields(chance: random.Random) -> dict[str, Any]:
    schema = _any_schema(chance)
    named = {"name": "m", "schema": schema, "strict": chance.choice([None, True])}
    tool = {"name": "f", "parameters": schema, "strict": chance.choice([None, True])}
    return chance.choice(
        [
            {"json_schema": schema},
            {"guided_json": schema},
            {"response_format": {"type": "json_schema", "json_schema": named}},
            {"tools": [{"type": "function", "function": tool}], "tool_choice": "required"},
            {"grammar": "%llguidance {}\nstart: %json " + json.dumps(schema)},
        ]
    )


# --- grammars and expressions ---------------------------------------------------------


def _mutated_text(text: str, others: list[str], chance: random.Random) -> str:
    at, to = sorted((chance.randint(0, len(text)), chance.randint(0, len(text))))
    what = chance.random()
    if what < 0.4:
        return text[:at] + chance.choice(TEXTS) + text[at:]
    if what < 0.6:
        return text[:at] + text[to:]
    if what < 0.75:
        return text[:to] + text[at:to] * chance.choice([1, 2, 50]) + text[to:]
    other = chance.choice(others)
    return text[:at] + other[chance.randint(0, len(other)) :]


def _text_of(corpus: list[str], chance: random.Random) -> str:
    text = chance.choice(corpus)
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        text = _mutated_text(text, corpus, chance)
    return text


def _lark_fields(chance: random.Random) -> dict[str, Any]:
    return {"grammar": "%llguidance {}\n" + _text_of(LARKS, chance)}


def _gbnf_fields(chance: random.Random) -> dict[str, Any]:
    return {chance.choice(["grammar", "guided_grammar"]): _text_of(GBNFS, chance)}


def _regex_fields(chance: random.Random) -> dict[str, Any]:
    text = "".join(_text_of(PATTERNS, chance) for _ in range(chance.randint(1, 3)))
    return {"guided_regex": text}


def _choice_fields(chance: random.Random) -> dict[str, Any]:
    return {"guided_choice": chance.choices(TEXTS, k=chance.randint(1, 5))}


# --- sampling -------------------------------------------------------------------------


def _samplers(chance: random.Random) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in chance.sample(_SAMPLERS, chance.randint(1, 6)):
        plausible = _PLAUSIBLE.get(name, [0, 1])
        fields[name] = chance.choice(plausible if chance.random() < 0.9 else VALUES)
    if chance.random() < 0.2:
        tokens = [
            chance.choice([0, 1, 2, 50, 4095, 4096, -1, 10**9]) for _ in range(chance.randint(0, 4))
        ]
        bias = chance.choice([-100, 100, 0, 1e308, -1e308, False, "a"])
        fields["logit_bias"] = {str(token): bias for token in tokens}
    if chance.random() < 0.1:
        fields["samplers"] = chance.choices(_ORDER, k=chance.randint(0, 4))
    if chance.random() < 0.1:
        fields["dry_sequence_breakers"] = chance.choices(TEXTS, k=chance.randint(0, 4))
    if chance.random() < 0.1:
        fields["stop"] = chance.choices(TEXTS, k=chance.randint(0, 4))
    return fields


def _sampler_fields(chance: random.Random) -> dict[str, Any]:
    fields = {**_samplers(chance), **_samplers(chance)}
    if chance.random() < 0.02:
        fields[chance.choice(_SAMPLERS)] = chance.choice(
            [float("nan"), float("inf"), -float("inf")]
        )
    return fields


_KINDS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "schema": _schema_fields,
    "lark": _lark_fields,
    "gbnf": _gbnf_fields,
    "regex": _regex_fields,
    "choice": _choice_fields,
    "samplers": _sampler_fields,
}
