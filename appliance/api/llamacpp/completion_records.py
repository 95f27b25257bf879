"""The records of /completion and /infill, field by field, and events as such.

Knows no request and no transport.

Source: tools/server/server-task.cpp of llama.cpp, `to_json_non_oaicompat`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.api.errors import Failure
from appliance.api.llamacpp.errors import llama_error
from appliance.api.llamacpp.parameters import NO_SLOT, fields_of
from appliance.api.timings import ProgressRecord, Timings
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.wire_format import StreamItem, WireRecord
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Started,
    Usage,
)

_LEAST = -3.4028234663852886e38  # llama-server's for "impossible"; JSON has no infinities


class LikelyRecord(msgspec.Struct, kw_only=True):
    id: int
    token: Annotated[str, Meta(description="Its text, without a character that is not whole.")]
    bytes: list[int]
    logprob: float


class TokenRecord(LikelyRecord, kw_only=True):
    top_logprobs: list[LikelyRecord]


class NativeRecord(msgspec.Struct, kw_only=True):
    """Chunks of a stream have what is told of a part, the last record all of it."""

    index: int = 0
    content: str
    tokens: Annotated[
        list[int], Meta(description="In streams, and with `return_tokens`; else empty.")
    ] = []
    id_slot: Annotated[int, Meta(description="The request's own; which slot it is, is ours.")]
    stop: bool
    model: str | UnsetType = UNSET
    tokens_predicted: int | UnsetType = UNSET
    tokens_evaluated: int | UnsetType = UNSET
    tokens_cached: int | UnsetType = UNSET
    generation_settings: dict[str, Any] | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    has_new_line: bool | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    stop_type: str | UnsetType = UNSET
    stopping_word: str | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET
    prompt_progress: ProgressRecord | UnsetType = UNSET
    completion_probabilities: list[TokenRecord] | UnsetType = UNSET


@dataclass(kw_only=True)
class NativeFormat:
    """See `WireFormat`. llama.cpp's own streams end without a mark."""

    model: str  # of `auto` the one that answers, once that is known
    settings: dict[str, Any]
    id_slot: int = NO_SLOT
    fields: Sequence[str] | None = None  # of the last record; None: all
    prompts: Sequence[str] = ()  # as texts, where they are to be included
    num_choices: int = 1  # to each prompt
    includes_tokens: bool = False
    includes_probabilities: bool = False
    includes_timings: bool = False  # in each chunk; the last record always has them
    # the choices of a stream whose text has a line break
    _with_new_line: set[int] = field(default_factory=set)

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:
        if isinstance(event, Started) and event.route is not None:
            self.model = event.route.model
        if isinstance(event, Finished):
            return (
                self._chosen(
                    self._end(index, "", event, has_new_line=index in self._with_new_line)
                ),
            )
        if not isinstance(event, Delta):
            return ()
        if "\n" in event.text:
            self._with_new_line.add(index)
        if not (event.text or event.token_ids or event.progress):
            return ()
        return (self._chunk(index, event),)

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return ()

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (llama_error(failure),)

    def whole(self, choices: Sequence[CompletedChoice]) -> WireRecord | Sequence[WireRecord]:
        if (route := choices[0].route) is not None:
            self.model = route.model
        records = [self._whole(index, choice) for index, choice in enumerate(choices)]
        return records[0] if len(records) == 1 else records

    def _whole(self, index: int, choice: CompletedChoice) -> WireRecord:
        record = self._end(index, choice.text, choice.finished, has_new_line="\n" in choice.text)
        tokens = choice.tokens or []
        if self.includes_tokens:
            record.tokens = choice.token_ids
        if self.includes_probabilities:
            record.completion_probabilities = [_token_record(token) for token in tokens]
        return self._chosen(record)

    def _chosen(self, end: NativeRecord) -> NativeRecord | dict[str, Any]:
        return end if not self.fields else fields_of(msgspec.to_builtins(end), [*self.fields])

    def _chunk(self, index: int, event: Delta) -> NativeRecord:
        usage, tokens = event.usage, event.tokens or []
        chunk = NativeRecord(
            index=index,
            content=event.text,
            tokens=(event.token_ids or []) if self.includes_tokens else [],
            id_slot=self.id_slot,
            stop=False,
        )
        if event.progress is not None:
            usage = Usage(
                num_prompt_tokens=event.progress.num_prompt_tokens,
                num_cached_tokens=event.progress.num_cached_tokens,
                num_completion_tokens=0,
            )
            chunk.prompt_progress = ProgressRecord.of(event.progress)
        if usage is not None:
            chunk.tokens_predicted = usage.num_completion_tokens
            chunk.tokens_evaluated = usage.num_prompt_tokens
            if self.includes_timings and event.progress is None:
                chunk.timings = Timings.of(usage)
        if self.includes_probabilities and tokens:
            chunk.completion_probabilities = [_token_record(token) for token in tokens]
        return chunk

    def _end(
        self, index: int, text: str, finished: Finished, *, has_new_line: bool
    ) -> NativeRecord:
        usage = finished.usage
        return NativeRecord(
            index=index,
            content=text,
            id_slot=self.id_slot,
            stop=True,
            model=self.model,
            tokens_predicted=usage.num_completion_tokens,
            tokens_evaluated=usage.num_prompt_tokens,
            tokens_cached=usage.num_cached_tokens,
            generation_settings=self.settings,
            prompt=self.prompts[index // self.num_choices] if self.prompts else UNSET,
            has_new_line=has_new_line,
            truncated=usage.num_discarded_tokens > 0,
            stop_type=_stop_type(finished),
            stopping_word=finished.stop_string,
            timings=Timings.of(usage),
        )


def _token_record(token: SampledToken) -> TokenRecord:
    return TokenRecord(
        **_of(token.chosen), top_logprobs=[LikelyRecord(**_of(likely)) for likely in token.top]
    )


def _of(token: LikelyToken) -> Mapping[str, Any]:
    """A control token has no text."""
    piece = b"" if token.is_control else token.piece
    return {
        "id": token.id,
        "token": piece.decode("utf-8", errors="ignore"),
        "bytes": list(piece),
        "logprob": _LEAST if token.logprob is None else max(token.logprob, _LEAST),
    }


def _stop_type(finished: Finished) -> str:
    if finished.reason is not FinishReason.STOP:
        return "limit"
    return "word" if finished.stop_string else "eos"
