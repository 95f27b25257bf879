"""How long a client lets its request take, in the body.

Knows no endpoint, and ends nothing itself.
"""

from __future__ import annotations

import contextlib
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import RequestModel
from appliance.durations import duration_s

ALLOWED = "a time above 0, such as 30 (seconds), 1.5 or 1m30s"
_MAX_S = 1e9  # some thirty years


def seconds_of(sent: str | float) -> float:
    """Of a number of seconds, or a duration. Raises `ValueError` where it is none above 0."""
    timeout_s = duration_s(sent) if isinstance(sent, str) else float(sent)
    if not 0 < timeout_s <= _MAX_S:
        raise ValueError(f"not {ALLOWED}")
    return timeout_s


def _read(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            return seconds_of(value)
    raise PydanticCustomError("invalid_value", "It must be {allowed}.", {"allowed": ALLOWED})


class TimeoutField(RequestModel):
    """Part of every request that a model computes something for."""

    timeout: Annotated[
        float | None,
        PlainValidator(_read),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 0},
                    {"type": "string"},
                    {"type": "null"},
                ],
                "description": "Seconds, or a duration such as 1m30s, within which the response is "
                "to be complete, waiting included; else it is a 504. Of this, the header "
                "x-request-timeout and the server's own limit the least holds.",
            }
        ),
    ] = None
