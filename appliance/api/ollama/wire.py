"""The records of Ollama's answers, field by field. Knows no request and no transport.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md. `UNSET` fields are left
out, as Ollama leaves them out; durations are nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from appliance.api.ollama.times import NS_PER_MS, Stopwatch
from appliance.protocol.events import Finished, LikelyToken, SampledToken

_LEAST_LOGPROB = -9999.0  # JSON has no infinities


class CalledFunction(msgspec.Struct, kw_only=True):
    index: int
    name: str
    arguments: dict[str, Any]


class ToolCallRecord(msgspec.Struct, kw_only=True):
    id: str
    function: CalledFunction


class MessageRecord(msgspec.Struct, kw_only=True):
    role: str = "assistant"
    content: str = ""
    thinking: str | UnsetType = UNSET
    tool_calls: list[ToolCallRecord] | UnsetType = UNSET


class OllamaTokenLogprob(msgspec.Struct, kw_only=True):
    token: str
    logprob: float
    bytes: list[int]


class LogprobRecord(OllamaTokenLogprob, kw_only=True):
    top_logprobs: list[OllamaTokenLogprob] | UnsetType = UNSET


class AnswerRecord(msgspec.Struct, kw_only=True):
    """A chunk, or the whole answer; what is behind `done` is in the last one only."""

    model: str
    created_at: str
    done: bool = False
    done_reason: str | UnsetType = UNSET
    logprobs: list[LogprobRecord] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET

    def finish(self, finished: Finished, stopwatch: Stopwatch) -> None:
        """Makes this the last one."""
        usage = finished.usage
        self.done = True
        self.done_reason = finished.reason.value
        self.total_duration = total_ns = stopwatch.total_ns
        self.load_duration = stopwatch.load_ns
        self.prompt_eval_count = usage.num_prompt_tokens
        self.eval_count = usage.num_completion_tokens
        if usage.times is not None:
            self.prompt_eval_duration = round(usage.times.prompt_ms * NS_PER_MS)
            self.eval_duration = round(usage.times.completion_ms * NS_PER_MS)
            # the worker had begun before word of it came here
            rest_ns = total_ns - self.prompt_eval_duration - self.eval_duration
            self.load_duration = max(0, min(stopwatch.load_ns, rest_ns))


class ChatRecord(AnswerRecord, kw_only=True):
    message: MessageRecord


class GenerateRecord(AnswerRecord, kw_only=True):
    response: str
    thinking: str | UnsetType = UNSET
    context: list[int] | UnsetType = UNSET


class EmbedRecord(msgspec.Struct, kw_only=True):
    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaEmbedding(msgspec.Struct, kw_only=True):
    embedding: list[float]


class Details(msgspec.Struct, kw_only=True):
    parent_model: str = ""
    format: str = "gguf"
    family: str = ""
    families: list[str] = []
    parameter_size: str = ""
    quantization_level: str = ""


class ListedModel(msgspec.Struct, kw_only=True):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: list[str]


class OllamaModelList(msgspec.Struct, kw_only=True):
    models: list[ListedModel]


class RunningModel(msgspec.Struct, kw_only=True):
    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class RunningModels(msgspec.Struct, kw_only=True):
    models: list[RunningModel]


class ShownModel(msgspec.Struct, kw_only=True):
    modelfile: str
    parameters: str | UnsetType = UNSET
    template: str
    system: str | UnsetType = UNSET
    license: str | UnsetType = UNSET
    details: Details
    messages: list[dict[str, Any]] | UnsetType = UNSET
    model_info: dict[str, str | int | float | bool | None]
    capabilities: list[str]
    modified_at: str


class VersionRecord(msgspec.Struct):
    version: str


class CloudRecord(msgspec.Struct, kw_only=True):
    disabled: bool
    source: str  # of that: `env`, `config`, `both` or `none`


class StatusRecord(msgspec.Struct):
    cloud: CloudRecord


def logprob_records(
    tokens: Sequence[SampledToken] | None, *, has_top: bool
) -> list[LogprobRecord] | UnsetType:
    if not tokens:
        return UNSET
    return [
        LogprobRecord(
            token=_text(token.chosen),
            logprob=_bounded(token.chosen),
            bytes=list(token.chosen.piece),
            top_logprobs=[
                OllamaTokenLogprob(
                    token=_text(each), logprob=_bounded(each), bytes=list(each.piece)
                )
                for each in token.top
            ]
            if has_top
            else UNSET,
        )
        for token in tokens
    ]


def _text(token: LikelyToken) -> str:
    return token.piece.decode("utf-8", errors="replace")


def _bounded(token: LikelyToken) -> float:
    return _LEAST_LOGPROB if token.logprob is None else max(token.logprob, _LEAST_LOGPROB)
