"""The records of OpenAI's chat and text completions and models, field by field.

Knows no request and no transport.

`UNSET` fields are left out; null ones are written, as OpenAI writes them.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.api.auto_route import AutoRecord
from appliance.api.timings import ProgressRecord, Timings
from appliance.api.transport.completed_choice import CompletedToolCall
from appliance.api.transport.wire_format import EndMark
from appliance.gateway.router import ServedModel
from appliance.protocol import events

DONE = EndMark("[DONE]")  # ends a stream that did not break

# vLLM's, where `return_token_ids` asks for them
TokenIds = list[int] | UnsetType


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class SpeculationRecord(msgspec.Struct):
    """The time saved by drafted tokens; not OpenAI's."""

    expected_gain_ms: Annotated[float, Meta(description="As expected when they were drafted.")]
    gain_ms: Annotated[float, Meta(description="As measured.")]


class UsageRecord(msgspec.Struct, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    # where something was drafted, or thought
    completion_tokens_details: CompletionTokensDetails | UnsetType = UNSET
    speculation: SpeculationRecord | UnsetType = UNSET
    discarded_tokens: Annotated[
        int | UnsetType, Meta(description="Dropped by context shifts; not OpenAI's.")
    ] = UNSET
    x_energy_j: Annotated[
        float | UnsetType,
        Meta(description="Joules that the machine took for it, where that is known."),
    ] = UNSET
    x_auto: AutoRecord | UnsetType = UNSET


class TopLogprob(msgspec.Struct, kw_only=True):
    token: str
    logprob: float
    bytes: list[int] | None


class ChatTokenLogprob(TopLogprob, kw_only=True):
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, kw_only=True):
    content: list[ChatTokenLogprob]
    refusal: None = None


class TextLogprobs(msgspec.Struct, kw_only=True):
    """Columns: one entry for each token."""

    tokens: list[str]
    token_logprobs: Annotated[
        list[float | None], Meta(description="Null for the first token of a prompt.")
    ]
    top_logprobs: Annotated[
        list[dict[str, float] | None], Meta(description="Null for the first token of a prompt.")
    ]
    text_offset: Annotated[
        list[int], Meta(description="Characters of the choice's text before the token.")
    ]


class ChatFunctionCall(msgspec.Struct, kw_only=True):
    name: str
    arguments: str


class ChatToolCall(msgspec.Struct, kw_only=True):
    id: str
    type: Literal["function"] = "function"
    function: ChatFunctionCall


class ChatFunctionDelta(msgspec.Struct, kw_only=True):
    name: str | UnsetType = UNSET
    arguments: str


class ChatToolCallDelta(msgspec.Struct, kw_only=True):
    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: ChatFunctionDelta


class ChatMessage(msgspec.Struct, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    # DeepSeek's, and by now everybody's but OpenAI's
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChatToolCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, kw_only=True):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str
    token_ids: TokenIds = UNSET


class ChatCompletion(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: UsageRecord
    timings: Timings | UnsetType = UNSET
    prompt_token_ids: TokenIds = UNSET


class ChatDelta(msgspec.Struct, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ChatToolCallDelta] | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    token_ids: TokenIds = UNSET  # all that were sampled since the last chunk of the choice


class ChatChunk(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChunkChoice]
    usage: UsageRecord | UnsetType | None = UNSET
    # llama-server's, where they are asked for
    timings: Timings | UnsetType = UNSET
    prompt_progress: ProgressRecord | UnsetType = UNSET
    prompt_token_ids: TokenIds = UNSET  # in each choice's first chunk


class TextChoice(msgspec.Struct, kw_only=True):
    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None
    prompt_token_ids: TokenIds = UNSET  # in streams in its first chunk
    token_ids: TokenIds = UNSET  # all that were sampled, in streams since its last chunk


class TextCompletion(msgspec.Struct, kw_only=True):
    """The whole response, or one chunk of a stream:
    OpenAI gives both the same shape.
    """

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[TextChoice]
    usage: UsageRecord | UnsetType | None = UNSET
    # llama-server's, where they are asked for
    timings: Timings | UnsetType = UNSET
    prompt_progress: ProgressRecord | UnsetType = UNSET


class ReplicaRecord(msgspec.Struct, kw_only=True):
    """One of the replicas of a fleet's model."""

    node: Annotated[str, Meta(description="Of which machine it is one.")]
    state: str
    quantization: str | None
    ctx: int | None
    slots: int | None
    choice: Annotated[str, Meta(description="What was planned for its machine, in words.")]
    predicted_bytes: int
    num_running: int
    num_waiting: int
    num_restarts: int
    last_error: str | None


class ModelRecord(msgspec.Struct, kw_only=True):
    """OpenAI's four fields, and more of ours."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "appliance"
    aliases: list[str]
    # the model whose adapter this is
    parent: str | UnsetType = UNSET
    # of the model `auto`: those that it chooses from, the smallest first
    tiers: list[str] | UnsetType = UNSET
    state: str
    loaded: bool
    last_error: str | None
    # null while it is not loaded, down to `predicted_bytes`
    quantization: str | None
    ctx: Annotated[int | None, Meta(description="Tokens of the longest request.")]
    slots: int | None
    predicted_bytes: Annotated[int | None, Meta(description="Its share of the memory budget.")]
    reduced: Annotated[
        bool, Meta(description="Memory is short: it is loaded smaller than planned.")
    ]
    # of a fleet's model: it may be another quantization on each machine
    replicas: list[ReplicaRecord] | UnsetType = UNSET


class ModelList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[ModelRecord]


@dataclass
class CompletionHeader:
    """What every record of one response repeats."""

    id: str
    created: int  # Unix seconds
    served: ServedModel  # of `auto` the model that answers, once that is known

    @classmethod
    def of(cls, prefix: str, served: ServedModel) -> CompletionHeader:
        return cls(f"{prefix}-{secrets.token_hex(12)}", int(time.time()), served)

    def told(self, route: events.Route | None) -> None:
        """Of the model `auto`, which one answers."""
        tiers = self.served.tiers
        if route is not None and tiers is not None:
            [self.served] = (model for model in tiers.usable if model.id == route.model)

    @property
    def model(self) -> str:
        return self.served.id

    @property
    def system_fingerprint(self) -> str | None:
        """Of what computes this response; None until the model is loaded."""
        info = self.served.client.info
        return (
            None
            if info is None
            else _fingerprint((info.name, info.quantization, info.kv_type, info.system_info))
        )


def usage_record(finished: Sequence[events.Finished], num_prompts: int = 1) -> UsageRecord:
    """Of all choices together, as many to each prompt: a prompt counts once, as it was
    for the first of its choices.
    """
    firsts = [each.usage for each in finished[:: len(finished) // num_prompts]]
    num_prompt_tokens = sum(usage.num_prompt_tokens for usage in firsts)
    num_completion_tokens = sum(each.usage.num_completion_tokens for each in finished)
    num_discarded_tokens = sum(each.usage.num_discarded_tokens for each in finished)
    num_reasoning = sum(each.usage.num_reasoning_tokens for each in finished)
    energies_j = [each.usage.energy_j for each in finished if each.usage.energy_j is not None]
    drafts = [each.usage.drafts for each in finished if each.usage.drafts is not None]
    num_drafted, num_accepted = (
        sum(d.num_drafted for d in drafts),
        sum(d.num_accepted for d in drafts),
    )
    return UsageRecord(
        prompt_tokens=num_prompt_tokens,
        completion_tokens=num_completion_tokens,
        total_tokens=num_prompt_tokens + num_completion_tokens,
        prompt_tokens_details=PromptTokensDetails(sum(usage.num_cached_tokens for usage in firsts)),
        completion_tokens_details=CompletionTokensDetails(
            num_reasoning, num_accepted, num_drafted - num_accepted
        )
        if num_drafted or num_reasoning
        else UNSET,
        speculation=SpeculationRecord(
            round(sum(d.expected_ms for d in drafts), 1), round(sum(d.real_ms for d in drafts), 1)
        )
        if num_drafted
        else UNSET,
        discarded_tokens=num_discarded_tokens or UNSET,
        x_energy_j=round(sum(energies_j), 3) if energies_j else UNSET,
        x_auto=AutoRecord.of(finished[0].usage),
    )


def token_ids_of(event: events.Event) -> list[int]:
    """Of a stream's event; empty where it brought none."""
    return (event.token_ids or []) if isinstance(event, events.Delta) else []


def chat_tool_call(call: CompletedToolCall) -> ChatToolCall:
    function = ChatFunctionCall(name=call.name, arguments=call.arguments)
    return ChatToolCall(id=call.id, function=function)


def chat_tool_call_delta(call: events.ToolCallPart) -> ChatToolCallDelta:
    if not call.name:
        return ChatToolCallDelta(
            index=call.index, function=ChatFunctionDelta(arguments=call.arguments)
        )
    function = ChatFunctionDelta(name=call.name, arguments=call.arguments)
    return ChatToolCallDelta(index=call.index, id=call.id, type="function", function=function)


@functools.lru_cache(maxsize=64)
def _fingerprint(parts: tuple[str, ...]) -> str:
    """Changes when what computes changes: then the same seed may give another text."""
    return "fp_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
