"""POST /v1/chat/completions: its request to a GenerateRequest, events to its answers.

Knows no sampling and no HTTP.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES, ErrorBody
from appliance.api.fields.parameters import (
    GenerationParameters,
    Label,
    Metadata,
    Only,
    ReasoningEffort,
    TemplateArguments,
)
from appliance.api.fields.request import MAX_INT32, TokenCount
from appliance.api.fields.tools import ToolFields
from appliance.api.openai.chat_messages import MAX_MESSAGES, Message, chat_prompt
from appliance.api.openai.logprobs import MAX_CHAT_TOP_LOGPROBS, chat_logprobs
from appliance.api.openai.wire import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChatMessage,
    Heading,
    Usage,
    encode,
    tool_call,
    tool_call_delta,
    usage_of,
)
from appliance.api.transport import sse
from appliance.api.transport.answer import StreamedAnswer, WholeAnswer, WholeChoice
from appliance.api.transport.body import StrictJsonRoute
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.events import Delta, Event, Finished, FinishReason, Started
from appliance.protocol.requests import GenerateRequest

UNBOUNDED = -1

# --- request --------------------------------------------------------------------------


class ChatRequest(ToolFields, GenerationParameters):
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_CHAT_TOP_LOGPROBS)] | None = None

    # How much the model reasons before it answers; of the tokens for it, and -1 for as
    # many as it likes.
    reasoning_effort: ReasoningEffort | None = None
    reasoning_budget: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None

    # What else the model's chat template reads, such as {"enable_thinking": false};
    # vLLM's and llama.cpp's name.
    chat_template_kwargs: TemplateArguments | None = None

    # Labels and hints that change no answer, as documented.
    metadata: Metadata | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None

    audio: Annotated[Any, Only()] = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    functions: Annotated[Any, Only([])] = None
    modalities: Annotated[Any, Only(["text"])] = None
    moderation: Annotated[Any, Only()] = None
    prediction: Annotated[Any, Only()] = None
    prompt_cache_options: Annotated[Any, Only()] = None
    prompt_cache_retention: Annotated[Any, Only("in_memory")] = None
    service_tier: Annotated[Any, Only("auto", "default")] = None
    store: Annotated[Any, Only(False)] = None
    verbosity: Annotated[Any, Only("medium")] = None
    web_search_options: Annotated[Any, Only()] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _agrees_with_max_tokens(cls, value: int | None, info: ValidationInfo) -> int | None:
        older = info.data.get("max_tokens")
        if value is not None and older is not None and value != older:
            raise PydanticCustomError(
                "invalid_value", "'max_tokens' is its older name: send one of the two."
            )
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _need_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError(
                "invalid_value", "It is only allowed when 'logprobs' is true."
            )
        return value

    def to_generate_request(self) -> GenerateRequest:
        num_top_logprobs = (self.top_logprobs or 0) if self.logprobs else None
        tools = [function.for_template() for function in self.shown_tools()]
        return GenerateRequest(
            prompt=chat_prompt(
                self.messages, self.chat_template_kwargs, tools, self.reasoning_effort
            ),
            sampling=self.sampling(num_top_logprobs),
            max_tokens=self.max_tokens
            if self.max_completion_tokens is None
            else self.max_completion_tokens,
            stop=self.stop or [],
            shifts_context=bool(self.context_shift),
            keeps_prefix=self.cache == "keep",
            uses_cache=self.uses_cache,
            keep_alive_s=self.keep_alive,
            grammar=self.one_grammar(),
            tool_calls=self.tool_call_rules(),
            max_reasoning_tokens=None
            if self.reasoning_budget == UNBOUNDED
            else self.reasoning_budget,
        )


# --- answer ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ChatFormat:
    """A request's answers as bytes; see `AnswerFormat`.

    With `includes_usage` the stream ends with the token counts.
    """

    heading: Heading
    includes_usage: bool = False
    includes_logprobs: bool = False

    def chunk(self, index: int, event: Event) -> bytes:
        if isinstance(event, Delta):
            logprobs = chat_logprobs(event.tokens) if event.tokens else None
            has_any = event.text or event.reasoning or event.tool_call is not None or logprobs
            return self._frame(index, _delta(event), logprobs) if has_any else b""
        if isinstance(event, Started):
            return self._frame(index, ChatDelta(role="assistant", content=""))
        assert isinstance(event, Finished), "a Client raises what failed"
        return self._frame(index, ChatDelta(), finish_reason=_finish_reason(event))

    def end(self, finished: Sequence[Finished]) -> bytes:
        return (self._chunk([], usage_of(finished)) if self.includes_usage else b"") + sse.DONE

    def broken(self, body: ErrorBody) -> bytes:
        return sse.frame(body)

    def whole(self, choices: Sequence[WholeChoice]) -> bytes:
        heading = self.heading
        return encode(
            ChatCompletion(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                system_fingerprint=heading.system_fingerprint,
                choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
                usage=usage_of([choice.finished for choice in choices]),
            )
        )

    def _choice(self, index: int, choice: WholeChoice) -> ChatChoice:
        return ChatChoice(
            index=index,
            message=ChatMessage(
                content=choice.text if choice.text or not choice.tool_calls else None,
                reasoning_content=choice.reasoning or UNSET,
                tool_calls=[tool_call(call) for call in choice.tool_calls] or UNSET,
            ),
            logprobs=chat_logprobs(choice.tokens or []) if self.includes_logprobs else None,
            finish_reason=_finish_reason(choice.finished),
        )

    def _frame(
        self,
        index: int,
        delta: ChatDelta,
        logprobs: ChatLogprobs | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        choice = ChatChunkChoice(
            index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason
        )
        return self._chunk([choice], None if self.includes_usage else UNSET)

    def _chunk(self, choices: list[ChatChunkChoice], usage: Usage | UnsetType | None) -> bytes:
        heading = self.heading
        return sse.frame(
            ChatChunk(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                system_fingerprint=heading.system_fingerprint,
                choices=choices,
                usage=usage,
            )
        )


def _delta(event: Delta) -> ChatDelta:
    if event.tool_call is not None:
        return ChatDelta(tool_calls=[tool_call_delta(event.tool_call)])
    if event.reasoning:
        return ChatDelta(reasoning_content=event.reasoning)
    return ChatDelta(content=event.text)


def _finish_reason(finished: Finished) -> str:
    is_call = finished.has_tool_calls and finished.reason is FinishReason.STOP
    return "tool_calls" if is_call else finished.reason.value


def chat_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"], route_class=StrictJsonRoute)

    @router.post(
        "/v1/chat/completions",
        responses=RESPONSES | answers(ChatCompletion, ChatChunk, ends_with_done=True),
    )
    async def create_chat_completion(request: ChatRequest) -> Response:
        """Answers a conversation, whole or, with `stream`, as server-sent events."""
        model = gateway.router.resolve(request.model)
        answer = ChatFormat(
            Heading.of("chatcmpl", model), request.includes_usage, bool(request.logprobs)
        )
        events = gateway.generate_choices(
            model, [request.to_generate_request()], request.num_choices
        )
        return StreamedAnswer(events, answer) if request.stream else WholeAnswer(events, answer)

    return router
