"""Numbers in a JSON schema: exact, or refused by name, before native code sees them.

llguidance holds numbers as doubles, and bounds of integers as 64 bits of those. An integer
range that lies wholly at -2^63 and below makes it recurse without an end; a `const` that
is no double comes out as another number. Knows no keyword.
"""

from __future__ import annotations

import math
from decimal import Decimal

from appliance.errors import BadRequest

MAX_DIVISOR = 10_000  # without its decimal point: the compiler distinguishes so many remainders
MAX_EXACT = 2**53  # every integer up to it is a double
MAX_BOUND = 2**63 - 1024  # the largest double that 64 bits hold
_MAX_INT64 = 2**63 - 1  # is held too: what is larger becomes it
_MAX_SHOWN_CHARS = 60


def exact(value: object, place: str) -> object:
    """Data that an answer repeats: every number comes out as it is."""
    if isinstance(value, dict):
        return {key: exact(one, f"{place}/{key}") for key, one in value.items()}
    if isinstance(value, list):
        return [exact(one, f"{place}/{at}") for at, one in enumerate(value)]
    if not is_number(value):
        return value
    assert isinstance(value, int | float)
    if isinstance(value, float) and not value.is_integer():
        if not math.isfinite(value) or _as_read(value) != value:
            raise BadRequest(
                f"The JSON schema's number {value!r} ({shown(place)}) cannot be kept exactly: it "
                "has too many digits. Write it with at most 15, or as a string."
            )
        return value
    whole = int(value)
    if whole != _MAX_INT64 and (abs(whole) > MAX_BOUND or int(float(whole)) != whole):
        raise BadRequest(
            f"The JSON schema's number {shown(value)} ({shown(place)}) cannot be kept exactly: "
            f"all integers are only up to {MAX_EXACT} (2^53). Write it as a string instead."
        )
    return whole


def lower(value: object, place: str, *, exclusive: bool) -> int | float:
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


def upper(value: object, place: str, *, exclusive: bool) -> int | float:
    assert isinstance(value, int | float)
    if value < -MAX_BOUND or (exclusive and value == -MAX_BOUND):
        raise _unreachable(value, place)
    return -lower(-value, place, exclusive=exclusive)


def _unreachable(value: float, place: str) -> BadRequest:
    return BadRequest(
        f"The JSON schema's bound {shown(value)} ({shown(place)}) leaves only numbers beyond "
        f"{MAX_BOUND}, which cannot be generated. Use a string with a pattern instead."
    )


def is_costly(divisor: float) -> bool:
    """Whether telling its multiples apart takes more than the compiler is to spend."""
    return _num_remainders(divisor) > MAX_DIVISOR


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


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "..."
