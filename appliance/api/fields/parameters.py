"""What chat and completion requests have in common: sampling, stopping, streaming, and
how the rest is refused.

Knows neither prompts nor responses. Every parameter of OpenAI's either works or is
refused by name: one that is not supported yet is declared with `NeutralOnly`; one that
nobody documented is refused as unrecognized. Values are never converted: `"0.5"` is not
a number and `1` not a boolean.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from appliance.api.fields.request import RequestModel, TokenCount, TokenId
from appliance.api.fields.retention import RetentionFields
from appliance.api.fields.structured import StructuredOutputFields
from appliance.gateway.choices import MAX_CHOICES
from appliance.protocol.sampling import SamplingParams

MAX_STOP_STRINGS = 16
MAX_BIASED_TOKENS = 4096
MAX_STOP_CHARS = 1024

Penalty = Annotated[float, Field(ge=-2, le=2)]


class NeutralOnly:
    """A parameter that is not supported yet,
    except as null or a value that changes nothing.
    """

    def __init__(self, *neutral: object) -> None:
        self._neutral = neutral

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"enum": [None, *self._neutral], "description": "Not supported yet."}

    def _check(self, value: object) -> object:
        # 1 == True, so the types are compared too.
        if value is None or any(
            type(value) is type(known) and value == known for known in self._neutral
        ):
            return value
        way_out = " or ".join(
            ["leave it out", *(f"send {json.dumps(known)}" for known in self._neutral)]
        )
        raise PydanticCustomError(
            "unsupported_parameter", "It is not supported yet: {way_out}.", {"way_out": way_out}
        )


def _stop_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _token_keys(value: object) -> object:
    """JSON's keys are strings: `{"50256": -100}` names token 50256."""
    if not isinstance(value, dict):
        return value
    if len(value) > MAX_BIASED_TOKENS:
        raise PydanticCustomError(
            "invalid_value", "It has too many tokens: at most 4096 are accepted."
        )
    for key in value:
        # At most the ten digits of a 32-bit number: int() of a longer one would take
        # its time.
        if not (isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= 10):
            raise PydanticCustomError(
                "invalid_value", "The keys must be token ids, written as strings."
            )
    return {int(key): bias for key, bias in value.items()}


StopField = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]],
    BeforeValidator(_stop_list),
    Field(max_length=MAX_STOP_STRINGS),
]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], BeforeValidator(_token_keys)
]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
Label = Annotated[str, Field(max_length=1024)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


def _own_names_only(arguments: dict[str, Any]) -> dict[str, Any]:
    taken = next((name for name in arguments if name in _GIVEN_TO_TEMPLATES), None)
    if taken is not None:
        raise PydanticCustomError(
            "invalid_value",
            "'{name}' cannot be set here: the server passes it to the template itself.",
            {"name": taken},
        )
    return arguments


_GIVEN_TO_TEMPLATES = ("messages", "tools", "documents", "add_generation_prompt")
TemplateArguments = Annotated[
    dict[Annotated[str, Field(max_length=64)], Any],
    Field(max_length=64),
    AfterValidator(_own_names_only),
]


class StreamOptions(RequestModel):
    include_usage: bool | None = None  # the stream ends with the token counts
    include_obfuscation: Annotated[Any, NeutralOnly(False)] = None


class GenerationParameters(StructuredOutputFields, RetentionFields):
    """An absent or null parameter means the default of `SamplingParams`."""

    model: Annotated[str, Field(max_length=256)] | None = None

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    logit_bias: LogitBias | None = None
    context_shift: bool | None = None  # a full context drops its oldest tokens and goes on
    cache: Literal["keep"] | None = None  # the prompt is kept although nobody used it again yet

    max_tokens: TokenCount | None = None
    stop: StopField | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Labels that do not change the response, as documented.
    user: Label | None = None

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None

    @field_validator("stream_options")
    @classmethod
    def _need_a_stream(
        cls, options: StreamOptions | None, info: ValidationInfo
    ) -> StreamOptions | None:
        if options is not None and not info.data.get("stream"):
            raise PydanticCustomError(
                "invalid_value", "This is only allowed when 'stream' is true."
            )
        return options

    @field_validator("cache")
    @classmethod
    def _of_what_is_cached(cls, cache: str | None, info: ValidationInfo) -> str | None:
        if cache is not None and info.data.get("cache_prompt") is False:
            raise PydanticCustomError(
                "invalid_value",
                "'cache' cannot be 'keep' when 'cache_prompt' is false: leave out one of them.",
            )
        return cache

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether the stream ends with the token counts;
        context shifts are reported there too.
        """
        return bool(self.context_shift) or (
            self.stream_options is not None and bool(self.stream_options.include_usage)
        )

    def sampling(self, num_top_logprobs: int | None = None) -> SamplingParams:
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": self.seed,
            "logit_bias": self.logit_bias,
            "num_top_logprobs": num_top_logprobs,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return SamplingParams(**{**own, **self.given_samplers()})


def settings_of(sampling: SamplingParams) -> dict[str, Any]:
    """Those that a request may set, by their names there."""
    settings = asdict(sampling)
    return {name: settings[name] for name in GenerationParameters.model_fields if name in settings}
