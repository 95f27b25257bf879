"""Divisors (`multipleOf`) that cost the compiler too much: it tells as many remainders apart
as the least common multiple of all that one number has to fit.

Knows no other keyword of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from appliance.text.schema.numbers import MAX_DIVISOR
from appliance.text.schema.walk import Compiled, all_schemas

_MAX_REMAINDERS = 40_000  # of a whole schema: half a second
_MAX_STEPS = 100_000  # what is too entangled has none of its divisors enforced


def costly_divisors(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """The schemas whose `multipleOf` has to be left out."""
    holders = [schema for schema in all_schemas(whole) if "multipleOf" in schema]
    if len(holders) < 2:
        return []
    left_out: dict[int, dict[str, Any]] = {}
    known: set[Fraction] = set()
    num_steps = num_remainders = 0
    for schema in all_schemas(whole):
        multiple: Fraction | None = None
        members: list[dict[str, Any]] = []
        for part in _at_one_place(schema, whole.get("$defs", {})):
            num_steps += 1
            if num_steps > _MAX_STEPS:
                return holders
            if "multipleOf" not in part or id(part) in left_out:
                continue
            together = _common(multiple, Fraction(repr(part["multipleOf"])))
            if members and _num_remainders(together) > MAX_DIVISOR:
                left_out[id(part)] = part
            else:
                multiple = together
                members.append(part)
        if multiple is not None and multiple not in known:
            known.add(multiple)
            num_remainders += _num_remainders(multiple)
            if num_remainders > _MAX_REMAINDERS:
                left_out |= {id(member): member for member in members}
    return list(left_out.values())


def _common(one: Fraction | None, other: Fraction) -> Fraction:
    """The least multiple of both."""
    if one is None:
        return other
    numerator = math.lcm(one.numerator, other.numerator)
    return Fraction(numerator, math.gcd(one.denominator, other.denominator))


def _num_remainders(divisor: Fraction) -> int:
    """Its digits without the decimal point; it is a finite decimal."""
    shifted = divisor
    while shifted.denominator > 1:
        shifted *= 10
    return shifted.numerator


def _at_one_place(
    schema: dict[str, Any], definitions: Mapping[str, Compiled]
) -> Iterator[dict[str, Any]]:
    """Whatever one value may have to fit together with `schema`."""
    seen: set[int] = set()
    waiting: list[Compiled] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += [*part.get("allOf", []), *part.get("anyOf", [])]
            if "$ref" in part:
                waiting.append(definitions[part["$ref"].rpartition("/")[2]])
