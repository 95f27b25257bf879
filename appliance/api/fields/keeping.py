"""What a request says of what stays behind it: its prompt's prefix, and its model.

Knows no model and no endpoint.

Sources: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
(`cache_prompt`) and https://github.com/ollama/ollama/blob/main/docs/faq.mdx
(`keep_alive`).
"""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import RequestModel

_MAX_S = 1e9  # some thirty years: who wants longer means for ever
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_SECONDS_PER_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _seconds(value: object) -> float | None:
    """Seconds of a number or a text such as `5m`, `1h30m`; whatever is negative means for ever."""
    seconds = _of_text(value) if isinstance(value, str) else value
    if value is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds > _MAX_S:
        raise PydanticCustomError(
            "invalid_value",
            "It must be a time such as '5m', '1h30m' or 300 (seconds), 0 to unload the model "
            "after this answer, or -1 to keep it for ever.",
        )
    return math.inf if seconds < 0 else float(seconds)


def _of_text(text: str) -> float | None:
    size = text.removeprefix("-")
    parts = _PART.findall(size)
    if parts and "".join(number + unit for number, unit in parts) == size:
        seconds = math.fsum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in parts)
    elif re.fullmatch(r"\d{1,12}(?:\.\d{1,9})?", size):
        seconds = float(size)
    else:
        return None
    return -1.0 if size != text else seconds


KeepAlive = Annotated[
    float | None,
    PlainValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}),
]


class Keeping(RequestModel):
    """The fields that every request has which a model answers."""

    cache_prompt: bool | None = None  # false takes no known prefix and leaves none
    keep_alive: KeepAlive = None

    @property
    def uses_cache(self) -> bool:
        return self.cache_prompt is not False
