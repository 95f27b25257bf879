"""llama.cpp's sampling parameters, under its names and with its meaning and bounds.

Knows no endpoint.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST
/completion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, AliasChoices, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import MAX_INT32, RequestModel
from appliance.errors import BadRequest
from appliance.protocol.sampling import SamplingParams

_DEFAULT_TOP_K = SamplingParams().top_k
_MOST_FOR_INFILL = 256  # tokens
_MAX_BREAKER_BYTES = 40  # llama.cpp cuts longer ones


def _short_enough(breaker: str) -> str:
    if len(breaker.encode("utf-8")) > _MAX_BREAKER_BYTES:
        raise PydanticCustomError("invalid_value", "A sequence breaker may have at most 40 bytes.")
    return breaker


def _all_tokens(num_tokens: int) -> int:
    """-1 is the whole context, as in llama.cpp."""
    return MAX_INT32 if num_tokens == -1 else num_tokens


Breaker = Annotated[str, Field(min_length=1), AfterValidator(_short_enough)]


SamplerName = Literal[
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "typical_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
    "infill",
]
_OFF: Mapping[str, Mapping[str, float]] = {
    "penalties": {"repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
    "dry": {"dry_multiplier": 0.0},
    "top_n_sigma": {"top_n_sigma": 0.0},
    "top_k": {"top_k": 0},
    "typ_p": {"typical_p": 1.0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "xtc": {"xtc_probability": 0.0},
    "temperature": {"temperature": 1.0, "dynatemp_range": 0.0},
}


class SamplerFields(RequestModel):
    """Those that OpenAI lacks;
    an absent or null one means the default of `SamplingParams`.
    """

    # -1 and 0 both switch the filter off
    top_k: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(validation_alias=AliasChoices("typical_p", "typical", "typ_p")),
    ] = None
    top_n_sigma: Annotated[
        Annotated[float, Field(ge=-1, le=1000)] | None,
        Field(validation_alias=AliasChoices("top_n_sigma", "top_nsigma", "nsigma")),
    ] = None
    xtc_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    xtc_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[
        Annotated[float, Field(gt=0, le=10)] | None,
        Field(validation_alias=AliasChoices("repeat_penalty", "repetition_penalty")),
    ] = None
    repeat_last_n: Annotated[
        Annotated[int, Field(ge=-1, le=MAX_INT32), AfterValidator(_all_tokens)] | None,
        Field(
            validation_alias=AliasChoices(
                "repeat_last_n", "penalty_last_n", "repetition_context_size"
            )
        ),
    ] = None
    dry_multiplier: Annotated[float, Field(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Field(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    dry_penalty_last_n: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None
    dry_sequence_breakers: Annotated[list[Breaker], Field(max_length=16)] | None = None
    mirostat: Annotated[
        Annotated[int, Field(ge=0, le=2)] | None,
        Field(validation_alias=AliasChoices("mirostat", "mirostat_mode")),
    ] = None
    mirostat_tau: Annotated[float, Field(gt=0, le=100)] | None = None
    mirostat_eta: Annotated[float, Field(gt=0, le=1)] | None = None
    dynatemp_range: Annotated[float, Field(ge=0, le=2)] | None = None
    dynatemp_exponent: Annotated[float, Field(gt=0, le=100)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[
        Annotated[int, Field(ge=0, le=MAX_INT32)] | None,
        Field(validation_alias=AliasChoices("min_tokens", "min_new_tokens")),
    ] = None
    samplers: Annotated[list[SamplerName], Field(max_length=len(get_args(SamplerName)))] | None = (
        None
    )

    @field_validator("samplers")
    @classmethod
    def _in_a_possible_order(
        cls, names: list[str] | None, info: ValidationInfo
    ) -> list[str] | None:
        if names is None:
            return None
        if len(set(names)) < len(names):
            raise PydanticCustomError("invalid_value", "Each sampler may be named once.")
        given = info.data.get("top_k")
        num_best = _DEFAULT_TOP_K if given is None else given
        if "infill" in names and not (
            "top_k" in names[: names.index("infill")] and 0 < num_best <= _MOST_FOR_INFILL
        ):
            raise PydanticCustomError(
                "invalid_value",
                "'infill' compares every token with every other, so 'top_k' must come before it "
                "in the list and be between 1 and {most}.",
                {"most": _MOST_FOR_INFILL},
            )
        return names

    def refuse_endless_form(self, *, has_form: bool) -> None:
        """Raises `BadRequest` where an answer in a form is not to end with it."""
        if has_form and self.ignore_eos:
            raise BadRequest(
                "'ignore_eos' cannot be combined with a structured format, which decides where the "
                "response ends: leave it out.",
                param="ignore_eos",
            )

    def given_samplers(self) -> dict[str, Any]:
        """Fields of `SamplingParams`, of what is there."""
        given = {
            name: value
            for name in SamplerFields.model_fields
            if (value := getattr(self, name)) is not None
        }
        if "top_k" in given:
            given["top_k"] = max(given["top_k"], 0)
        if "dry_sequence_breakers" in given:
            given["dry_sequence_breakers"] = tuple(given["dry_sequence_breakers"])
        if "samplers" in given:
            named = ["typ_p" if name == "typical_p" else name for name in given["samplers"]]
            off = {
                field: value for name in _OFF.keys() - named for field, value in _OFF[name].items()
            }
            given |= {**off, "samplers": tuple(named)}
        return given
