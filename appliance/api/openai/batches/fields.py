"""What requests for files and for batches share.

Knows no endpoint.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import RequestModel
from appliance.durations import duration_s
from appliance.errors import NotAllowed
from appliance.gateway.batches.batches import Batches
from appliance.gateway.lifecycle import Gateway

MIN_LIFETIME_S, MAX_LIFETIME_S = 3600, 30 * 86_400  # of a file: OpenAI's
MAX_WINDOW_S = 30 * 86_400  # no input lives longer
_MAX_PAIRS, _MAX_KEY_CHARS, _MAX_CHARS = 16, 64, 512  # of metadata: OpenAI's


def _window(value: Any) -> str:
    try:
        window_s = duration_s(value)
    except (ValueError, AttributeError):
        window_s = math.nan
    if not 1 <= window_s <= MAX_WINDOW_S:
        raise PydanticCustomError(
            "invalid_value", "It must be a duration from 1s to 30d, such as '24h'."
        )
    return str(value)


CompletionWindow = Annotated[
    str, BeforeValidator(_window), WithJsonSchema({"type": "string", "examples": ["24h"]})
]


def _metadata(value: Any) -> dict[str, str]:
    is_taken = (
        isinstance(value, dict)
        and len(value) <= _MAX_PAIRS
        and all(len(key) <= _MAX_KEY_CHARS for key in value)
        and all(isinstance(each, str) and len(each) <= _MAX_CHARS for each in value.values())
    )
    if not is_taken:
        raise PydanticCustomError(
            "invalid_value",
            "It must be an object of at most {pairs} strings of at most {chars} characters, under "
            "names of at most {key_chars}.",
            {"pairs": _MAX_PAIRS, "chars": _MAX_CHARS, "key_chars": _MAX_KEY_CHARS},
        )
    return {**value}


Metadata = Annotated[
    dict[str, str],
    PlainValidator(_metadata),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": _MAX_PAIRS,
            "propertyNames": {"maxLength": _MAX_KEY_CHARS},
            "additionalProperties": {"type": "string", "maxLength": _MAX_CHARS},
        }
    ),
]


class ExpiresAfter(RequestModel):
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S)]


def batches_of(gateway: Gateway) -> Batches:
    """Raises `NotAllowed` where there are none."""
    if gateway.batches is None:
        raise NotAllowed(
            "This server keeps no files and answers no batches: see --files-bytes and its log."
        )
    return gateway.batches
