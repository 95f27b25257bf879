"""POST /infill, as llama.cpp has it: what belongs between a prefix and a suffix.

Knows no vocabulary and no sampling.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST
/infill and POST /completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pydantic import Field
from starlette.responses import Response

from appliance.api.errors import ErrorShape, Failure
from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.parameters import GenerationParameters, MaxTokens, settings_of
from appliance.api.fields.request import MAX_INT32, RequestModel
from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.api.transport.wire_format import StreamItem, WireRecord
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.events import Delta, Event, Finished, FinishReason, Times, Usage
from appliance.protocol.requests import GenerateRequest, InfillPrompt, SourceFile

MAX_FILES = 1024
_UNBOUNDED = -1

FieldPath = Annotated[str, Field(max_length=256)]

# --- request --------------------------------------------------------------------------


class ExtraFile(RequestModel):
    filename: str = "tmp"  # llama.cpp's defaults
    text: str = ""
    time: Any = None  # when an editor noticed it, on its own clock; changes nothing


class InfillRequest(GenerationParameters):
    input_prefix: str
    input_suffix: str
    input_extra: Annotated[list[ExtraFile], Field(max_length=MAX_FILES, fail_fast=True)] | None = (
        None
    )
    prompt: str | None = None  # the beginning of the text to be filled in
    max_tokens: MaxTokens = None  # without `n_predict` among its names, which is another field
    n_predict: Annotated[int, Field(ge=_UNBOUNDED, le=MAX_INT32)] | None = None
    spm_infill: bool | None = None  # llama-server's option --spm-infill: the suffix comes first

    n_indent: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    t_max_predict_ms: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None  # 0 and -1: no limit
    response_fields: Annotated[list[FieldPath], Field(max_length=64)] | None = None

    n: Annotated[Any, NeutralOnly(1)] = None
    stream_options: Hint = None

    @property
    def most_tokens(self) -> int | None:
        wanted = self.max_tokens if self.n_predict is None else self.n_predict
        return None if wanted == _UNBOUNDED else wanted

    def to_generate_request(self) -> GenerateRequest:
        return GenerateRequest(
            prompt=InfillPrompt(
                prefix=self.input_prefix,
                suffix=self.input_suffix,
                prefill=self.prompt or "",
                files=[SourceFile(file.filename, file.text) for file in self.input_extra or ()],
                is_suffix_first=bool(self.spm_infill),
                param="input_suffix",
            ),
            sampling=self.sampling(),
            max_tokens=self.most_tokens,
            stop=self.stop or [],
            shifts_context=bool(self.context_shift),
            keeps_prefix=self.cache == "keep",
            uses_cache=self.uses_cache,
            is_exact=self.exact,
            keep_alive_s=self.keep_alive,
            grammar=self.one_grammar(),
            min_indent=self.n_indent or 0,
            max_text_ms=self.t_max_predict_ms if (self.t_max_predict_ms or 0) > 0 else None,
            includes_times=True,
        )

    def settings(self) -> dict[str, Any]:
        """Included in the response."""
        return {
            **settings_of(self.sampling()),
            "n_predict": _UNBOUNDED if self.most_tokens is None else self.most_tokens,
            "stop": self.stop or [],
            "stream": bool(self.stream),
        }


# --- response -------------------------------------------------------------------------


class Timings(msgspec.Struct, kw_only=True):
    """A rate is 0 for what took no time."""

    cache_n: Annotated[int, Meta(description="Tokens of the prompt taken from the cache.")]
    prompt_n: Annotated[int, Meta(description="Tokens of the prompt that were computed.")]
    prompt_ms: Annotated[float, Meta(description="Includes the wait for a free slot.")]
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: Annotated[int, Meta(description="Tokens generated.")]
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float

    @classmethod
    def of(cls, usage: Usage) -> Timings:
        times = usage.times or Times(0.0, 0.0)
        num_prefilled = usage.num_prompt_tokens - usage.num_cached_tokens
        num_generated = usage.num_completion_tokens
        prompt_per_token_ms, prompt_per_second = _rates(num_prefilled, times.prompt_ms)
        predicted_per_token_ms, predicted_per_second = _rates(num_generated, times.completion_ms)
        return cls(
            cache_n=usage.num_cached_tokens,
            prompt_n=num_prefilled,
            prompt_ms=times.prompt_ms,
            prompt_per_token_ms=prompt_per_token_ms,
            prompt_per_second=prompt_per_second,
            predicted_n=num_generated,
            predicted_ms=times.completion_ms,
            predicted_per_token_ms=predicted_per_token_ms,
            predicted_per_second=predicted_per_second,
        )


def _rates(num_tokens: int, duration_ms: float) -> tuple[float, float]:
    """Milliseconds for each token, and tokens in each second."""
    return (
        duration_ms / num_tokens if num_tokens else 0.0,
        1000 * num_tokens / duration_ms if duration_ms else 0.0,
    )


class InfillRecord(msgspec.Struct, kw_only=True):
    """Chunks of a stream have the first four fields; the last one has all of them."""

    index: int = 0
    content: str
    tokens: Annotated[list[int], Meta(description="Always empty.")] = []
    stop: bool
    model: str | UnsetType = UNSET
    tokens_predicted: int | UnsetType = UNSET
    tokens_evaluated: int | UnsetType = UNSET
    tokens_cached: int | UnsetType = UNSET
    generation_settings: dict[str, Any] | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    stop_type: str | UnsetType = UNSET
    stopping_word: str | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET


@dataclass(frozen=True)
class InfillFormat:
    """See `WireFormat`. llama.cpp's own streams end without a mark."""

    model: str
    settings: dict[str, Any]
    error_shape: ErrorShape
    fields: Sequence[str] | None = None  # of the last record; None: all

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:
        if isinstance(event, Delta) and event.text:
            return (InfillRecord(index=index, content=event.text, stop=False),)
        if isinstance(event, Finished):
            return (self._chosen(self._end("", event)),)
        return ()

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return ()

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (self.error_shape.to_record(failure),)

    def whole(self, choices: Sequence[CompletedChoice]) -> WireRecord:
        [choice] = choices
        return self._chosen(self._end(choice.text, choice.finished))

    def _chosen(self, end: InfillRecord) -> InfillRecord | dict[str, Any]:
        return end if not self.fields else fields_of(msgspec.to_builtins(end), self.fields)

    def _end(self, text: str, finished: Finished) -> InfillRecord:
        usage = finished.usage
        return InfillRecord(
            content=text,
            stop=True,
            model=self.model,
            tokens_predicted=usage.num_completion_tokens,
            tokens_evaluated=usage.num_prompt_tokens,
            tokens_cached=usage.num_cached_tokens,
            generation_settings=self.settings,
            truncated=usage.num_discarded_tokens > 0,
            stop_type=_stop_type(finished),
            stopping_word=finished.stop_string,
            timings=Timings.of(usage),
        )


def fields_of(record: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Each value by its path, such as `timings/prompt_n`. As in llama.cpp, what is not
    there is left out.
    """
    found = {}
    for path in paths:
        value: Any = record
        for name in path.split("/"):
            value = value.get(name, UNSET) if isinstance(value, dict) else UNSET
        if value is not UNSET:
            found[path] = value
    return found


def _stop_type(finished: Finished) -> str:
    if finished.reason is not FinishReason.STOP:
        return "limit"
    return "word" if finished.stop_string else "eos"


def infill_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp")
    described = router.returns(InfillRecord, stream=InfillRecord, may_be_partial=True)

    @router.post("/infill", responses=described)
    async def infill(request: InfillRequest, caller: RequestCaller) -> Response:
        """Fills in what belongs between `input_prefix` and `input_suffix`, whole or,
        with `stream`, as server-sent events.
        """
        model = gateway.router.resolve(request.model)
        wire_format = InfillFormat(
            model.id, request.settings(), router.error_shape, request.response_fields
        )
        events = gateway.generate_choices(caller, model, [request.to_generate_request()])
        if request.stream:
            return StreamedResponse(events, wire_format)
        return WholeResponse(events, wire_format)

    return router
