"""POST /v1/chat/completions: its request to a GenerateRequest, events to its answers. Knows no sampling and no HTTP.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api import sse
from appliance.api.answer import StreamedAnswer, WholeAnswer, WholeChoice
from appliance.api.body import StrictJsonRoute
from appliance.api.errors import RESPONSES
from appliance.api.openai.logprobs import MAX_CHAT_TOP_LOGPROBS, chat_logprobs
from appliance.api.openai.parameters import (
    GenerationParameters,
    Label,
    Metadata,
    Only,
    TemplateArguments,
)
from appliance.api.openai.request import RequestModel, TokenCount
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
    usage_of,
)
from appliance.gateway.lifecycle import Gateway
from appliance.worker.messages import ChatPrompt, Delta, Event, Finished, GenerateRequest, Started

# --- request -------------------------------------------------------------------------------------------------------


MAX_MESSAGES = 4096  # and parts of one message: a template is rendered for each


def _text_only(kind: str) -> str:
    if kind != "text":
        raise PydanticCustomError(
            "unsupported_parameter",
            "Content parts of type '{kind}' are not supported yet: only 'text' is.",
            {"kind": kind[:40]},
        )
    return kind


class ContentPart(RequestModel):
    type: Annotated[str, AfterValidator(_text_only)]
    text: str


def _content_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<parts>" if isinstance(value, list) else None


Content = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[ContentPart], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True), Tag("<parts>")],
    Discriminator(
        _content_kind,
        custom_error_type="invalid_value",
        custom_error_message="The content must be a string or a list of text parts",
    ),
]


class Message(RequestModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Label | None = None
    refusal: Annotated[Any, Only()] = None
    audio: Annotated[Any, Only()] = None
    tool_calls: Annotated[Any, Only([])] = None
    function_call: Annotated[Any, Only()] = None

    def for_template(self) -> dict[str, Any]:
        """As templates expect it: `developer` is OpenAI's newer word for `system`; parts are joined by line breaks."""
        content = self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)
        message = {"role": "system" if self.role == "developer" else self.role, "content": content}
        return message if self.name is None else {**message, "name": self.name}


class ChatRequest(GenerationParameters):
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_CHAT_TOP_LOGPROBS)] | None = None

    # What else the model's chat template reads, such as {"enable_thinking": false}; vLLM's and llama.cpp's name.
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
    parallel_tool_calls: Annotated[Any, Only(True)] = None
    prediction: Annotated[Any, Only()] = None
    prompt_cache_options: Annotated[Any, Only()] = None
    prompt_cache_retention: Annotated[Any, Only("in_memory")] = None
    reasoning_effort: Annotated[Any, Only()] = None
    service_tier: Annotated[Any, Only("auto", "default")] = None
    store: Annotated[Any, Only(False)] = None
    tool_choice: Annotated[Any, Only("none", "auto")] = None
    tools: Annotated[Any, Only([])] = None
    verbosity: Annotated[Any, Only("medium")] = None
    web_search_options: Annotated[Any, Only()] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _agrees_with_max_tokens(cls, value: int | None, info: ValidationInfo) -> int | None:
        older = info.data.get("max_tokens")
        if value is not None and older is not None and value != older:
            raise PydanticCustomError("invalid_value", "'max_tokens' is its older name: send one of the two.")
        return value

    @field_validator("top_logprobs")
    @classmethod
    def _need_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError("invalid_value", "It is only allowed when 'logprobs' is true.")
        return value

    def to_generate_request(self) -> GenerateRequest:
        num_top_logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return GenerateRequest(
            prompt=chat_prompt(self.messages, self.chat_template_kwargs),
            sampling=self.sampling(num_top_logprobs),
            max_tokens=self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
            stop=self.stop or [],
            shifts_context=bool(self.context_shift),
            keeps_prefix=self.cache == "keep",
            grammar=self.one_grammar(),
        )


def chat_prompt(messages: Sequence[Message], template_arguments: dict[str, Any] | None) -> ChatPrompt:
    """An assistant's turn at the end is begun: the answer goes on with it."""
    return ChatPrompt(
        [message.for_template() for message in messages],
        arguments=template_arguments or {},
        goes_on=messages[-1].role == "assistant",
    )


# --- answer --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChatFormat:
    """A request's answers as bytes; see `AnswerFormat`. With `includes_usage` the stream ends with the token counts."""

    heading: Heading
    includes_usage: bool = False
    tells_logprobs: bool = False

    def chunk(self, index: int, event: Event) -> bytes:
        if isinstance(event, Delta):
            logprobs = chat_logprobs(event.tokens) if event.tokens else None
            return self._frame(index, ChatDelta(content=event.text), logprobs) if event.text or logprobs else b""
        if isinstance(event, Started):
            return self._frame(index, ChatDelta(role="assistant", content=""))
        assert isinstance(event, Finished), "a Client raises what failed"
        return self._frame(index, ChatDelta(), finish_reason=event.reason.value)

    def end(self, finished: Sequence[Finished]) -> bytes:
        return (self._chunk([], usage_of(finished)) if self.includes_usage else b"") + sse.DONE

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
            message=ChatMessage(content=choice.text),
            logprobs=chat_logprobs(choice.tokens or []) if self.tells_logprobs else None,
            finish_reason=choice.finished.reason.value,
        )

    def _frame(
        self, index: int, delta: ChatDelta, logprobs: ChatLogprobs | None = None, finish_reason: str | None = None
    ) -> bytes:
        choice = ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)
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


def chat_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"], route_class=StrictJsonRoute)

    @router.post("/v1/chat/completions", responses=RESPONSES)
    async def create_chat_completion(request: ChatRequest) -> Response:
        """Answers a conversation, whole or, with `stream`, as server-sent events."""
        model = gateway.router.resolve(request.model)
        answer = ChatFormat(Heading.of("chatcmpl", model), request.includes_usage, bool(request.logprobs))
        events = gateway.generate_choices(model, [request.to_generate_request()], request.num_choices)
        return StreamedAnswer(events, answer) if request.stream else WholeAnswer(events, answer)

    return router
