"""What chat and completion requests have in common: sampling, stopping, streaming, and
how the rest is refused.

Knows neither prompts nor responses. What would change the response and cannot be done
is refused by name (`NeutralOnly`); what cannot change it is taken (`Hint`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from appliance.api.fields.neutral import Hint
from appliance.api.fields.other_servers import OtherServersFields
from appliance.api.fields.request import MAX_INT32, LabelledModel, TokenId
from appliance.api.fields.retention import RetentionFields
from appliance.api.fields.structured import StructuredOutputFields
from appliance.api.fields.timeouts import TimeoutField
from appliance.gateway.choices import MAX_CHOICES
from appliance.protocol.sampling import SamplingParams

MAX_STOP_STRINGS = 16
RANDOM_SEED = -1  # llama.cpp's way of asking for another one each time
UNLIMITED = -1  # likewise, and everybody's after it
MAX_BIASED_TOKENS = 4096
MAX_BIAS = 100  # OpenAI's
MAX_STOP_CHARS = 1024

Penalty = Annotated[float, Field(ge=-2, le=2)]


def _stop_list(value: object) -> object:
    """An empty text stops nothing."""
    texts = [value] if isinstance(value, str) else value
    return [text for text in texts if text != ""] if isinstance(texts, list) else texts


def _token_keys(value: object) -> object:
    """JSON's keys are strings: `{"50256": -100}` names token 50256.

    llama.cpp's list may also name texts, and forbid by false: `[["Hello", false]]`.
    """
    if not isinstance(value, list | dict):
        return value
    if len(value) > MAX_BIASED_TOKENS:
        raise PydanticCustomError(
            "invalid_value", "It has too many tokens: at most 4096 are accepted."
        )
    if isinstance(value, list):
        return dict(map(_bias_pair, value))
    for key in value:
        # At most the ten digits of a 32-bit number: int() of a longer one would take
        # its time.
        if not (isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) <= 10):
            raise PydanticCustomError(
                "invalid_value", "The keys must be token ids, written as strings."
            )
    return {int(key): bias for key, bias in value.items()}


def _bias_pair(pair: object) -> tuple[int | str, object]:
    if not (isinstance(pair, list) and len(pair) == 2):
        raise PydanticCustomError(
            "invalid_value", "Each item must be a token id or a text, and its bias."
        )
    named, bias = pair
    if isinstance(named, bool) or not isinstance(named, int | str) or named == "":
        raise PydanticCustomError(
            "invalid_value", "The first of each item must be a token id or a text."
        )
    return named, -MAX_BIAS if bias is False else bias


StopField = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]],
    BeforeValidator(_stop_list),
    Field(max_length=MAX_STOP_STRINGS),
]
BiasedText = Annotated[str, Field(max_length=MAX_STOP_CHARS)]
LogitBias = Annotated[
    dict[TokenId | BiasedText, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]],
    BeforeValidator(_token_keys),
]
Label = Annotated[str, Field(max_length=1024)]


class StreamOptions(LabelledModel):
    include_usage: bool | None = None  # the stream ends with the token counts


def _unless_unlimited(num_tokens: int | None) -> int | None:
    return None if num_tokens == UNLIMITED else num_tokens


def _not_zero(num_tokens: int | None) -> int | None:
    if num_tokens == 0:
        raise PydanticCustomError(
            "greater_than_equal", "Input should be greater than or equal to 1"
        )
    return num_tokens


MaxTokens = Annotated[
    Annotated[int, Field(ge=UNLIMITED, le=MAX_INT32)] | None,
    AfterValidator(_not_zero),
    AfterValidator(_unless_unlimited),
]


def _unless_random(seed: int | None) -> int | None:
    return None if seed == RANDOM_SEED else seed


Seed = Annotated[
    Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None, AfterValidator(_unless_random)
]


SeedField = Annotated[Seed, Field(validation_alias=AliasChoices("seed", "random_seed"))]
Stop = Annotated[StopField | None, Field(validation_alias=AliasChoices("stop", "stop_sequences"))]
MAX_TOKENS_NAMES = AliasChoices("max_tokens", "n_predict", "num_predict", "max_new_tokens")


class GenerationParameters(
    StructuredOutputFields, RetentionFields, TimeoutField, OtherServersFields
):
    """An absent or null parameter means the default of `SamplingParams`."""

    model: Annotated[str, Field(max_length=256)] | None = None

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: SeedField = None
    logit_bias: LogitBias | None = None
    context_shift: bool | None = None  # a full context drops its oldest tokens and goes on
    exact: bool | None = None  # refused where the answer may depend on what is beside it
    cache: Literal["keep"] | None = None  # the prompt is kept although nobody used it again yet

    max_tokens: Annotated[MaxTokens, Field(validation_alias=MAX_TOKENS_NAMES)] = None
    stop: Stop = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    timings_per_token: bool | None = None  # how long it took, in each record
    return_progress: bool | None = None  # streams tell how far the prompt has been computed
    return_token_ids: bool | None = None  # as in vLLM: of the prompt, and all sampled ones

    user: Hint = None

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None

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

    @property
    def reports(self) -> dict[str, Any]:
        """Fields of `GenerateRequest`: what is told of a request beside its answer."""
        return {
            "includes_times": bool(self.timings_per_token),
            "reports_usage": bool(self.timings_per_token and self.stream),
            "reports_progress": bool(self.return_progress and self.stream),
            "reports_tokens": bool(self.return_token_ids),
            "reports_prompt_tokens": bool(self.return_token_ids),
        }

    def sampling(self, num_top_logprobs: int | None = None) -> SamplingParams:
        biases = self.logit_bias or {}
        given = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": self.seed,
            "logit_bias": {key: bias for key, bias in biases.items() if isinstance(key, int)},
            "text_bias": {key: bias for key, bias in biases.items() if isinstance(key, str)},
            "num_top_logprobs": num_top_logprobs,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return SamplingParams(**{**own, **self.given_samplers()})


def settings_of(sampling: SamplingParams) -> dict[str, Any]:
    """Those that a request may set, by their names there."""
    settings = asdict(sampling)
    return {name: settings[name] for name in GenerationParameters.model_fields if name in settings}
