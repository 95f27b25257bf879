"""What a request leaves in memory: its prompt's prefix, and its model.

Knows no model and no endpoint.

Sources: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
(`cache_prompt`) and https://github.com/ollama/ollama/blob/main/docs/faq.mdx
(`keep_alive`).
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AliasChoices, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import RequestModel
from appliance.durations import duration_s

_MAX_S = 1e9  # some thirty years: longer means for ever


def _seconds(value: object) -> float | None:
    """Seconds of a number or a text such as `5m`; anything negative means for ever."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return duration_s(value)
        except ValueError:
            raise _not_a_duration() from None
    if isinstance(value, bool) or not isinstance(value, int | float) or value > _MAX_S:
        raise _not_a_duration()
    return math.inf if value < 0 else float(value)


def _not_a_duration() -> PydanticCustomError:
    return PydanticCustomError(
        "invalid_value",
        "It must be a duration such as '5m', '1h30m' or 300 (seconds), 0 to unload the model "
        "after this response, or -1 to keep it loaded for ever.",
    )


KeepAliveField = Annotated[
    float | None,
    PlainValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}),
]


class RetentionFields(RequestModel):
    """Part of every request that generates."""

    cache_prompt: bool | None = None  # false: no cached prefix is used, and none is left
    # LM Studio's name is `ttl`
    keep_alive: Annotated[
        KeepAliveField, Field(validation_alias=AliasChoices("keep_alive", "ttl"))
    ] = None

    @property
    def uses_cache(self) -> bool:
        return self.cache_prompt is not False
