"""Bounds a JSON schema before native code compiles it: what would be changed there, cost
too much or end the process is refused by name.

llguidance holds numbers as doubles, and bounds of integers as 64 bits of those. An integer
range that lies wholly at -2^63 and below makes it recurse without an end; a `const` that
is no double comes out as another number. Knows no grammar.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal

from appliance.errors import BadRequest

MAX_PROPERTIES = 2000  # of one object
MAX_DIVISOR = 10_000
MAX_EXACT = 2**53  # every integer up to it is a double
MAX_BOUND = 2**63 - 1024  # the largest double that 64 bits hold
_MAX_INT64 = 2**63 - 1  # is held too: what is larger becomes it
_MAX_SHOWN_CHARS = 60

_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")
_DATA = ("const", "enum")
_ANNOTATIONS = ("default", "examples")  # never compiled, so any number may be in them
# What these hold is schemas by names, which are no keywords.
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")


def bounded(schema: object) -> object:
    """The schema with bounds that llguidance holds, none of them wider than it was.

    Raises `BadRequest`, which names the place.
    """
    try:
        result = _bounded(schema, "#")
        _check_rest(result)
    except RecursionError as error:
        raise BadRequest("The JSON schema is nested too deeply.") from error
    return result


def _bounded(part: object, place: str) -> object:
    if isinstance(part, dict):
        _check_costs(part, place)
        return {
            key: _value_of(key, value, f"{place}/{key}")
            for key, value in part.items()
            if key not in _ANNOTATIONS
        }
    if isinstance(part, list):
        return [_bounded(one, f"{place}/{at}") for at, one in enumerate(part)]
    return part


def _value_of(key: str, value: object, place: str) -> object:
    if key in _BY_NAME and isinstance(value, dict):
        return _named(value, place)
    if key in _DATA:
        return _exact(value, place)
    if key in _LOWER and _is_number(value):
        return _lower(value, place, exclusive=key != _LOWER[0])
    if key in _UPPER and _is_number(value):
        return _upper(value, place, exclusive=key != _UPPER[0])
    return _bounded(value, place)


def _named(schemas: dict[str, object], place: str) -> dict[str, object]:
    return {name: _bounded(schema, f"{place}/{name}") for name, schema in schemas.items()}


def _exact(value: object, place: str) -> object:
    """Data that an answer repeats: every number comes out as it is."""
    if isinstance(value, dict):
        return {key: _exact(one, f"{place}/{key}") for key, one in value.items()}
    if isinstance(value, list):
        return [_exact(one, f"{place}/{at}") for at, one in enumerate(value)]
    if not _is_number(value):
        return value
    assert isinstance(value, int | float)
    if isinstance(value, float) and not value.is_integer():
        if not math.isfinite(value) or _as_read(value) != value:
            raise BadRequest(
                f"The JSON schema's number {value!r} ({_shown(place)}) cannot be kept exactly: it "
                "has too many digits. Write it with at most 15, or as a string."
            )
        return value
    whole = int(value)
    if whole != _MAX_INT64 and (abs(whole) > MAX_BOUND or int(float(whole)) != whole):
        raise BadRequest(
            f"The JSON schema's number {_shown(value)} ({_shown(place)}) cannot be kept exactly: "
            f"all integers are only up to {MAX_EXACT} (2^53). Write it as a string instead."
        )
    return whole


def _lower(value: object, place: str, *, exclusive: bool) -> int | float:
    """The least bound that is held and allows no more than `value` does."""
    assert isinstance(value, int | float)
    if abs(value) < MAX_EXACT:
        return value
    if value > MAX_BOUND or (exclusive and value == MAX_BOUND) or math.isnan(value):
        raise _unreachable(value, place)
    if value < -MAX_BOUND:
        return -MAX_BOUND
    whole = int(value)
    nearest = float(whole)
    if int(nearest) < whole or (exclusive and int(nearest) == whole):
        # exclusive ones too: in doubles, adding 1 changes nothing here
        nearest = math.nextafter(nearest, math.inf)
    return int(nearest)


def _upper(value: object, place: str, *, exclusive: bool) -> int | float:
    assert isinstance(value, int | float)
    if value < -MAX_BOUND or (exclusive and value == -MAX_BOUND):
        raise _unreachable(value, place)
    return -_lower(-value, place, exclusive=exclusive)


def _unreachable(value: float, place: str) -> BadRequest:
    return BadRequest(
        f"The JSON schema's bound {_shown(value)} ({_shown(place)}) leaves only numbers beyond "
        f"{MAX_BOUND}, which cannot be generated. Use a string with a pattern instead."
    )


def _check_rest(schema: object) -> None:
    """Whatever its place, for a `$ref` may make a schema of any."""
    for number in _numbers(schema):
        if number < -MAX_BOUND or (isinstance(number, float) and number < -MAX_BOUND / 2):
            raise BadRequest(
                f"The JSON schema's number {_shown(number)} cannot be used: the least is "
                f"{-MAX_BOUND}."
            )


def _numbers(schema: object) -> Iterable[int | float]:
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            parts += part.values()
        elif isinstance(part, list):
            parts += part
        elif isinstance(part, int | float):
            yield part


def _check_costs(part: dict[str, object], place: str) -> None:
    """What llguidance itself does not bound: an object costs the square of its
    properties, a divisor its own size.
    """
    properties, divisor = part.get("properties"), part.get("multipleOf")
    if isinstance(properties, dict) and len(properties) > MAX_PROPERTIES:
        raise BadRequest(
            f"An object in the JSON schema ({_shown(place)}) has {len(properties)} properties; at "
            f"most {MAX_PROPERTIES} are allowed."
        )
    if isinstance(divisor, int | float) and _num_remainders(divisor) > MAX_DIVISOR:
        raise BadRequest(
            f"'multipleOf' is {_shown(divisor)} ({_shown(place)}); without the decimal point it "
            f"must be at most {MAX_DIVISOR}."
        )


def _num_remainders(divisor: float) -> int:
    """Its digits as a whole number: so many remainders are distinguished."""
    number = Decimal(repr(divisor))
    if not number.is_finite() or number.adjusted() > len(str(MAX_DIVISOR)):
        return MAX_DIVISOR + 1
    return int(number.scaleb(-min(int(number.as_tuple().exponent), 0)))


def _as_read(value: float) -> float:
    """What llguidance's JSON reader makes of its digits: they are rounded once as a whole
    number, and once more when the decimal point is set.
    """
    number = Decimal(repr(value)).as_tuple()
    assert isinstance(number.exponent, int), "it is finite"
    whole = float(int("".join(map(str, number.digits))))
    places = -number.exponent  # at least 1: it is no whole number
    while places > 308:
        whole, places = whole / 1e308, places - 308
    return math.copysign(whole / float(f"1e{places}"), value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "..."
