"""llama.cpp's sampling parameters, under its names and with its meaning and bounds. Knows no endpoint.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST /completion.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from appliance.api.openai.request import MAX_INT32, RequestModel

_MAX_BREAKER_BYTES = 40  # llama.cpp cuts longer ones


def _short_enough(breaker: str) -> str:
    if len(breaker.encode("utf-8")) > _MAX_BREAKER_BYTES:
        raise PydanticCustomError("invalid_value", "A sequence breaker has at most 40 bytes.")
    return breaker


Breaker = Annotated[str, Field(min_length=1), AfterValidator(_short_enough)]


class Samplers(RequestModel):
    """Those that OpenAI has not; an absent or null one means the default of `SamplingParams`."""

    top_k: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None  # -1 and 0 both switch the filter off
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_n_sigma: Annotated[float, Field(ge=-1, le=1000)] | None = None  # 0 and less switch it off
    xtc_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    xtc_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    repeat_last_n: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    dry_multiplier: Annotated[float, Field(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Field(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    dry_penalty_last_n: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    dry_sequence_breakers: Annotated[list[Breaker], Field(max_length=16)] | None = None
    mirostat: Annotated[int, Field(ge=0, le=2)] | None = None
    mirostat_tau: Annotated[float, Field(gt=0, le=100)] | None = None
    mirostat_eta: Annotated[float, Field(gt=0, le=1)] | None = None
    dynatemp_range: Annotated[float, Field(ge=0, le=2)] | None = None
    dynatemp_exponent: Annotated[float, Field(gt=0, le=100)] | None = None
    ignore_eos: bool | None = None

    def given_samplers(self) -> dict[str, Any]:
        """Fields of `SamplingParams`, of what is there."""
        given = {name: value for name in Samplers.model_fields if (value := getattr(self, name)) is not None}
        if "top_k" in given:
            given["top_k"] = max(given["top_k"], 0)
        if "dry_sequence_breakers" in given:
            given["dry_sequence_breakers"] = tuple(given["dry_sequence_breakers"])
        return given
