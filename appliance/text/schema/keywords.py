"""What single keywords of a JSON schema become for the compiler of grammars, where no other
schema is in their values.

Knows no places but those it is told, and no references.

Source: https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.errors import BadRequest
from appliance.text.schema.numbers import exact, is_costly, is_number, lower, shown, upper

TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
# Those that llguidance keeps to; JSON Schema calls every format an annotation.
FORMATS = frozenset(
    {"date-time", "date", "time", "duration", "email", "hostname", "uuid", "uri", "ipv4", "ipv6"}
)
_MAX_SIZE = 2**32  # of anything in an answer; what it cannot reach bounds nothing

Compiled = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Keyword:
    """One keyword of a schema."""

    value: Any
    place: str  # as a JSON pointer
    schema: Mapping[str, Any]  # that it stands in


class NotEnforceable(Exception):
    """The compiler cannot keep an answer to this value of a keyword."""


def invalid(place: str, rule: str) -> BadRequest:
    return BadRequest(f"The JSON schema is not valid: {shown(place)} {rule}.")


def _type(keyword: Keyword) -> Compiled:
    value = keyword.value
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise invalid(keyword.place, "must be the name of a type, or a list of such names")
    if "any" in names:  # draft 3's
        return {}
    if not TYPES.issuperset(names):
        raise NotEnforceable
    return {"type": value}


def _const(keyword: Keyword) -> Compiled:
    return {"const": exact(keyword.value, keyword.place)}


def _enum(keyword: Keyword) -> Compiled:
    if not isinstance(keyword.value, list) or not keyword.value:
        raise invalid(keyword.place, "must be a list of at least one value")
    return {"enum": exact(keyword.value, keyword.place)}


def _size(key: str) -> Callable[[Keyword], Compiled]:
    def compiled(keyword: Keyword) -> Compiled:
        value, place = keyword.value, keyword.place
        if not is_number(value) or value < 0 or not float(value).is_integer():
            raise invalid(place, "must be a whole number that is not negative")
        size = int(value)
        if key.startswith("min"):
            if size > _MAX_SIZE:
                raise invalid(place, f"must be at most {_MAX_SIZE}: no answer is that long")
            return {key: size} if size else {}
        return {key: size} if size <= _MAX_SIZE else {}

    return compiled


def _min_properties(keyword: Keyword) -> Compiled:
    """A name may come twice where it is not listed, and counts once for who reads it: so
    two or more are only certain where so many are required.
    """
    taken = _size("minProperties")(keyword)
    required = keyword.schema.get("required")
    num_required = len(set(map(str, required))) if isinstance(required, list) else 0
    if taken and taken["minProperties"] > max(num_required, 1):
        raise NotEnforceable
    return taken


def _pattern(keyword: Keyword) -> Compiled:
    if not isinstance(keyword.value, str):
        raise invalid(keyword.place, "must be a string")
    return {"pattern": keyword.value} if keyword.value else {}


def _format(keyword: Keyword) -> Compiled:
    is_known = isinstance(keyword.value, str) and keyword.value in FORMATS
    return {"format": keyword.value} if is_known else {}


def _bound(key: str) -> Callable[[Keyword], Compiled]:
    draw_in = lower if key in ("minimum", "exclusiveMinimum") else upper
    is_exclusive = key.startswith("exclusive")
    inclusive = "minimum" if draw_in is lower else "maximum"

    def compiled(keyword: Keyword) -> Compiled:
        value = keyword.value
        if is_exclusive and isinstance(value, bool):  # draft 4's: it says how the other is meant
            value = keyword.schema.get(inclusive) if value else None
            if value is None:
                return {}
        if not is_number(value):
            raise invalid(keyword.place, "must be a number")
        return {key: draw_in(value, keyword.place, exclusive=is_exclusive)}

    return compiled


def _multiple_of(keyword: Keyword) -> Compiled:
    value = keyword.value
    if not is_number(value) or not value > 0:
        raise invalid(keyword.place, "must be a number greater than 0")
    if is_costly(value):
        raise NotEnforceable
    return {"multipleOf": value}


def _required(keyword: Keyword) -> Compiled:
    value = keyword.value
    if isinstance(value, bool):  # draft 3's: its object's `required` has it
        return {}
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise invalid(keyword.place, "must be a list of names")
    return {"required": list(dict.fromkeys(value))} if value else {}


SINGLE: Mapping[str, Callable[[Keyword], Compiled]] = {
    "type": _type,
    "const": _const,
    "enum": _enum,
    "pattern": _pattern,
    "format": _format,
    "multipleOf": _multiple_of,
    "required": _required,
    **{
        key: _size(key)
        for key in (
            *("minLength", "maxLength", "minItems", "maxItems"),
            "maxProperties",
        )
    },
    "minProperties": _min_properties,
    **{key: _bound(key) for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")},
}
"""What each becomes. They raise `NotEnforceable`, and `BadRequest` that names the place.
"""


def allows_all(value: object) -> bool:
    """As a schema."""
    return value is True or value == {}


def _all_allow_all(keyword: Keyword) -> bool:
    value = keyword.value
    return isinstance(value, dict) and all(one == [] or allows_all(one) for one in value.values())


def _contains(keyword: Keyword) -> bool:
    return keyword.schema.get("minContains") == 0 and "maxContains" not in keyword.schema


# Whether a value asks for nothing.
NOT_ENFORCED: Mapping[str, Callable[[Keyword], bool]] = {
    "not": lambda keyword: keyword.value is False,
    "if": lambda keyword: keyword.schema.keys().isdisjoint({"then", "else"}),
    "then": lambda keyword: "if" not in keyword.schema or allows_all(keyword.value),
    "else": lambda keyword: "if" not in keyword.schema or allows_all(keyword.value),
    "uniqueItems": lambda keyword: (
        keyword.value is False or keyword.schema.get("maxItems") in (0, 1)
    ),
    "contains": _contains,
    "minContains": lambda keyword: "contains" not in keyword.schema or keyword.value in (0, 1),
    "maxContains": lambda keyword: "contains" not in keyword.schema,
    "dependentRequired": _all_allow_all,
    "dependentSchemas": _all_allow_all,
    "dependencies": _all_allow_all,
    # draft 3's
    "disallow": lambda keyword: keyword.value == [],
    "divisibleBy": lambda keyword: keyword.value == 0,
    "extends": lambda keyword: allows_all(keyword.value),
}
"""Keywords that would bound answers and cannot be kept to; everything that stands neither
here nor in `SINGLE` nor has schemas in it is an annotation.
"""
