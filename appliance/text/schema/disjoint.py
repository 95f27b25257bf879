"""Whether no value fits two compiled schemas, as far as that is plain: where it is,
"exactly one of" is "any of".

Knows no keyword that the compiler does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.text.schema.keywords import TYPES

Schema = dict[str, Any] | bool

_MAX_COMPARISONS = 20_000
_MAX_DEPTH = 12
_ALL_TYPES = TYPES - {"integer"}


class _TooMuch(Exception):
    pass


class Disjoint:
    """For schemas that refer to `definitions`."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        self._num_left = _MAX_COMPARISONS

    def are_all(self, options: Sequence[Schema]) -> bool:
        """No value fits two of them. False may only mean that it would take too long."""
        try:
            return all(
                self._are(one, other, _MAX_DEPTH)
                for at, one in enumerate(options)
                for other in options[at + 1 :]
            )
        except _TooMuch:
            return False

    def _are(self, one: Schema, other: Schema, depth: int) -> bool:
        self._num_left -= 1
        if self._num_left < 0:
            raise _TooMuch
        if one is False or other is False:
            return True
        if one is True or other is True or depth == 0:
            return False
        return (
            self._is_apart(one, other, depth)
            or self._is_apart(other, one, depth)
            or self._differ(one, other, depth)
        )

    def _is_apart(self, schema: dict[str, Any], other: Schema, depth: int) -> bool:
        """By what else it has to fit."""
        options = schema.get("anyOf")
        return any(self._are(part, other, depth - 1) for part in self._conditions(schema)) or (
            options is not None and all(self._are(one, other, depth - 1) for one in options)
        )

    def _conditions(self, schema: dict[str, Any]) -> list[Schema]:
        """All of these hold for what fits it."""
        found = [*schema.get("allOf", [])]
        if "$ref" in schema:
            found.append(self._definitions[schema["$ref"].rpartition("/")[2]])
        return found

    def _differ(self, one: dict[str, Any], other: dict[str, Any], depth: int) -> bool:
        types = _types(one) & _types(other)
        if not types:
            return True
        values, others = _values(one), _values(other)
        if values is not None and others is not None and not values & others:
            return True
        if types != {"object"}:
            return False
        return any(
            self._are(_property(one, name), _property(other, name), depth - 1)
            for name in {*one.get("required", []), *other.get("required", [])}
        )


def _property(schema: dict[str, Any], name: str) -> Schema:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if name in properties or "patternProperties" in schema:
        return properties.get(name, True)
    result: Schema = schema.get("additionalProperties", True)
    return result


def _types(schema: dict[str, Any]) -> frozenset[str]:
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        return frozenset(map(_type_of, values))
    names = schema.get("type", list(_ALL_TYPES))
    return frozenset(
        "number" if name == "integer" else name
        for name in (names if isinstance(names, list) else [names])
    )


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else "number"


def _values(schema: dict[str, Any]) -> frozenset[str] | None:
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return None if values is None else frozenset(map(_canonical, values))


def _canonical(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)
