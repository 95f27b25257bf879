"""POST /v1/chat/completions: its request to a GenerateRequest, events to its records.

Knows no sampling and no transport.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import UNSET, UnsetType
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api.errors import Failure
from appliance.api.fields.chat_messages import (
    MAX_MESSAGES,
    InputMessage,
    chat_prompt,
    continues_last,
)
from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.parameters import (
    GenerationParameters,
    MaxTokens,
)
from appliance.api.fields.reasoning import ReasoningEffort, ReasoningFields, ReasoningTokens
from appliance.api.fields.request import LabelledModel
from appliance.api.fields.tools import ToolFields
from appliance.api.format_router import FormatRouter
from appliance.api.openai.errors import openai_error
from appliance.api.openai.logprobs import MAX_CHAT_TOP_LOGPROBS, chat_logprobs
from appliance.api.openai.wire import (
    DONE,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    CompletionHeader,
    UsageRecord,
    chat_tool_call,
    chat_tool_call_delta,
    token_ids_of,
    usage_record,
)
from appliance.api.timings import progress_at, timings_at
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.api.transport.wire_format import FormattedEvents, StreamItem
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.protocol.events import Delta, Event, Finished, FinishReason, Started
from appliance.protocol.requests import GenerateRequest

# --- request --------------------------------------------------------------------------


class OpenRouterReasoning(LabelledModel):
    """Source: https://openrouter.ai/docs/use-cases/reasoning-tokens"""

    enabled: Annotated[Any, NeutralOnly(True)] = None
    exclude: Annotated[Any, NeutralOnly(False)] = None
    effort: ReasoningEffort | None = None
    max_tokens: ReasoningTokens | None = None


class ChatRequest(ToolFields, ReasoningFields, GenerationParameters):
    messages: Annotated[
        list[InputMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    ]
    max_completion_tokens: MaxTokens = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_CHAT_TOP_LOGPROBS)] | None = None

    reasoning_effort: ReasoningEffort | None = None
    reasoning: OpenRouterReasoning | None = None

    # This is how it is done: a last message of the assistant is continued.
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    audio: Annotated[Any, NeutralOnly()] = None
    best_of: Annotated[Any, NeutralOnly(1)] = None
    chat_template: Annotated[Any, NeutralOnly("")] = None
    documents: Annotated[Any, NeutralOnly([])] = None
    echo: Annotated[Any, NeutralOnly(False)] = None
    function_call: Annotated[Any, NeutralOnly("none", "auto")] = None
    functions: Annotated[Any, NeutralOnly([])] = None
    input: Annotated[Any, NeutralOnly()] = None
    modalities: Annotated[Any, NeutralOnly(["text"])] = None
    moderation: Annotated[Any, NeutralOnly()] = None
    prompt: Annotated[Any, NeutralOnly("")] = None
    suffix: Annotated[Any, NeutralOnly("")] = None
    web_search_options: Annotated[Any, NeutralOnly()] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _agrees_with_max_tokens(cls, value: int | None, info: ValidationInfo) -> int | None:
        older = info.data.get("max_tokens")
        if value is not None and older is not None and value != older:
            raise PydanticCustomError(
                "invalid_value",
                "'max_tokens' is the older name of this parameter: send only one of them.",
            )
        return value

    @field_validator("add_generation_prompt", "continue_final_message")
    @classmethod
    def _is_what_is_done(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        messages = info.data.get("messages")
        if value is None or messages is None:
            return value
        is_done = continues_last(messages) == (info.field_name == "continue_final_message")
        if value != is_done:
            raise PydanticCustomError(
                "unsupported_parameter",
                "A last message of the assistant is continued, after any other one a new message "
                "begins: leave it out.",
            )
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _need_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError(
                "invalid_value", "This is only allowed when 'logprobs' is true."
            )
        return value

    def to_generate_request(self) -> GenerateRequest:
        num_top_logprobs = (self.top_logprobs or 0) if self.logprobs else None
        tools = [function.for_template() for function in self.shown_tools()]
        return GenerateRequest(
            prompt=chat_prompt(
                self.messages,
                self.template_arguments(),
                tools,
                self.effort(self.reasoning_effort or self._routed.effort),
            ),
            sampling=self.sampling(num_top_logprobs),
            max_tokens=self.max_tokens
            if self.max_completion_tokens is None
            else self.max_completion_tokens,
            stop=self.stop or [],
            shifts_context=bool(self.context_shift),
            keeps_prefix=self.cache == "keep",
            uses_cache=self.uses_cache,
            is_exact=self.exact,
            keep_alive_s=self.keep_alive,
            grammar=self.one_grammar(),
            tool_calls=self.tool_call_rules(),
            max_reasoning_tokens=self.max_reasoning_tokens(self._routed.max_tokens),
            **self.reports,
            **self.adapters,
        )

    @property
    def _routed(self) -> OpenRouterReasoning:
        return self.reasoning or OpenRouterReasoning()


# --- response -------------------------------------------------------------------------


@dataclass(frozen=True)
class ChatFormat:
    """See `WireFormat`."""

    header: CompletionHeader
    includes_usage: bool = False  # the stream ends with the token counts
    includes_logprobs: bool = False
    includes_timings: bool = False
    includes_token_ids: bool = False
    # of a stream's choices without a chunk: clients time the first one, the role's, for the
    # first token, so that it comes with what follows it
    _started: dict[int, Started] = field(default_factory=dict)

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:
        if isinstance(event, Started):
            self.header.told(event.route)
            self._started[index] = event
            return ()
        chunk = self._chunk_at(index, event)
        if chunk is None:
            return ()
        started = self._started.pop(index, None)
        if started is None:
            return (chunk,)
        first = self._chunk_of(index, ChatDelta(role="assistant", content=""))
        return self._told(first, started), chunk

    def _chunk_at(self, index: int, event: Event) -> ChatChunk | None:
        if isinstance(event, Delta):
            logprobs = chat_logprobs(event.tokens) if event.tokens else None
            has_any = event.text or event.reasoning or event.tool_call is not None or logprobs
            if not has_any and not event.token_ids and event.progress is None:
                return None
            return self._told(self._chunk_of(index, _delta(event), logprobs), event)
        assert isinstance(event, Finished), "a Client raises what failed"
        end = self._chunk_of(index, ChatDelta(), finish_reason=_finish_reason(event))
        return self._told(end, event)

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:
        if self.includes_usage:
            return self._chunk([], usage_record(finished)), DONE
        return (DONE,)

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (openai_error(failure),)

    def whole(self, choices: Sequence[CompletedChoice]) -> ChatCompletion:
        header = self.header
        header.told(choices[0].route)
        return ChatCompletion(
            id=header.id,
            created=header.created,
            model=header.model,
            system_fingerprint=header.system_fingerprint,
            choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
            usage=usage_record([choice.finished for choice in choices]),
            timings=timings_at(choices[0].finished) if self.includes_timings else UNSET,
            prompt_token_ids=choices[0].prompt_token_ids if self.includes_token_ids else UNSET,
        )

    def _told(self, chunk: ChatChunk, event: Event) -> ChatChunk:
        """With what was asked for beside the answer."""
        chunk.prompt_progress = progress_at(event)
        if self.includes_timings:
            chunk.timings = timings_at(event)
        if self.includes_token_ids:
            if isinstance(event, Started):
                chunk.prompt_token_ids = event.prompt_token_ids
            else:
                chunk.choices[0].token_ids = token_ids_of(event)
        return chunk

    def _choice(self, index: int, choice: CompletedChoice) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=ChatMessage(
                content=choice.text if choice.text or not choice.tool_calls else None,
                reasoning_content=choice.reasoning or UNSET,
                tool_calls=[chat_tool_call(call) for call in choice.tool_calls] or UNSET,
            ),
            logprobs=chat_logprobs(choice.tokens or []) if self.includes_logprobs else None,
            finish_reason=_finish_reason(choice.finished),
            token_ids=choice.token_ids if self.includes_token_ids else UNSET,
        )

    def _chunk_of(
        self,
        index: int,
        delta: ChatDelta,
        logprobs: ChatLogprobs | None = None,
        finish_reason: str | None = None,
    ) -> ChatChunk:
        choice = ChatChunkChoice(
            index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason
        )
        return self._chunk([choice], None if self.includes_usage else UNSET)

    def _chunk(
        self, choices: list[ChatChunkChoice], usage: UsageRecord | UnsetType | None
    ) -> ChatChunk:
        header = self.header
        return ChatChunk(
            id=header.id,
            created=header.created,
            model=header.model,
            system_fingerprint=header.system_fingerprint,
            choices=choices,
            usage=usage,
        )


def _delta(event: Delta) -> ChatDelta:
    if event.tool_call is not None:
        return ChatDelta(tool_calls=[chat_tool_call_delta(event.tool_call)])
    if event.reasoning:
        return ChatDelta(reasoning_content=event.reasoning)
    return ChatDelta(content=event.text)


def _finish_reason(finished: Finished) -> str:
    is_call = finished.has_tool_calls and finished.reason is FinishReason.STOP
    return "tool_calls" if is_call else finished.reason.value


async def begin_chat(gateway: Gateway, caller: Caller, request: ChatRequest) -> FormattedEvents:
    """Raises `ApplianceError` where the request cannot be served."""
    model = gateway.models_of(caller).resolve(request.model)
    chat = ChatFormat(
        header=CompletionHeader.of("chatcmpl", model),
        includes_usage=request.includes_usage,
        includes_logprobs=bool(request.logprobs),
        includes_timings=bool(request.timings_per_token),
        includes_token_ids=bool(request.return_token_ids),
    )
    ask_timeout(request.timeout)
    events = gateway.generate_choices(
        caller,
        model,
        [request.to_generate_request()],
        request.num_choices,
        is_whole=not request.stream,
    )
    return FormattedEvents(events, chat)


def chat_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")

    @router.post(
        "/v1/chat/completions",
        responses=router.returns(ChatCompletion, stream=ChatChunk, end_mark=DONE),
    )
    async def create_chat_completion(request: ChatRequest, caller: RequestCaller) -> Response:
        """Responds to a conversation, whole or,
        with `stream`, as server-sent events.
        """
        events, chat = await begin_chat(gateway, caller, request)
        return StreamedResponse(events, chat) if request.stream else WholeResponse(events, chat)

    return router
