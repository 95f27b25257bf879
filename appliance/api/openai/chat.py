"""POST /v1/chat/completions: its request to a GenerateRequest, events to its answers. Knows no sampling and no HTTP.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api import sse
from appliance.api.answer import StreamedAnswer, WholeAnswer
from appliance.api.body import StrictJsonRoute
from appliance.api.errors import RESPONSES
from appliance.api.openai.parameters import (
    GenerationParameters,
    Label,
    Metadata,
    Only,
    RequestModel,
    TokenCount,
)
from appliance.api.openai.wire import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
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

    # Labels and hints that change no answer, as documented.
    metadata: Metadata | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None

    audio: Annotated[Any, Only()] = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    functions: Annotated[Any, Only([])] = None
    logprobs: Annotated[Any, Only(False)] = None
    modalities: Annotated[Any, Only(["text"])] = None
    moderation: Annotated[Any, Only()] = None
    parallel_tool_calls: Annotated[Any, Only(True)] = None
    prediction: Annotated[Any, Only()] = None
    prompt_cache_options: Annotated[Any, Only()] = None
    prompt_cache_retention: Annotated[Any, Only("in_memory")] = None
    reasoning_effort: Annotated[Any, Only()] = None
    response_format: Annotated[Any, Only({"type": "text"})] = None
    service_tier: Annotated[Any, Only("auto", "default")] = None
    store: Annotated[Any, Only(False)] = None
    tool_choice: Annotated[Any, Only("none", "auto")] = None
    tools: Annotated[Any, Only([])] = None
    top_logprobs: Annotated[Any, Only(0)] = None
    verbosity: Annotated[Any, Only("medium")] = None
    web_search_options: Annotated[Any, Only()] = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _agrees_with_max_tokens(cls, value: int | None, info: ValidationInfo) -> int | None:
        older = info.data.get("max_tokens")
        if value is not None and older is not None and value != older:
            raise PydanticCustomError("invalid_value", "'max_tokens' is its older name: send one of the two.")
        return value

    def to_generate_request(self) -> GenerateRequest:
        return GenerateRequest(
            prompt=ChatPrompt([message.for_template() for message in self.messages]),
            sampling=self.sampling(),
            max_tokens=self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
            stop=self.stop or [],
        )


# --- answer --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChatFormat:
    """One answer's events as bytes. With `includes_usage` the stream ends with the token counts."""

    heading: Heading
    includes_usage: bool = False

    def chunk(self, event: Event) -> bytes:
        """The server-sent events for one event; empty when there is nothing to say."""
        if isinstance(event, Delta):
            return self._frame(ChatDelta(content=event.text)) if event.text else b""
        if isinstance(event, Started):
            return self._frame(ChatDelta(role="assistant", content=""))
        assert isinstance(event, Finished), "a Client raises what failed"
        last = self._frame(ChatDelta(), event.reason.value)
        return last + (self._usage_frame(event) if self.includes_usage else b"") + sse.DONE

    def whole(self, text: str, finished: Finished) -> bytes:
        heading = self.heading
        return encode(
            ChatCompletion(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                system_fingerprint=heading.system_fingerprint,
                choices=[ChatChoice(message=ChatMessage(content=text), finish_reason=finished.reason.value)],
                usage=usage_of(finished.usage),
            )
        )

    def _frame(self, delta: ChatDelta, finish_reason: str | None = None) -> bytes:
        choice = ChatChunkChoice(delta=delta, finish_reason=finish_reason)
        return self._chunk([choice], None if self.includes_usage else UNSET)

    def _usage_frame(self, finished: Finished) -> bytes:
        return self._chunk([], usage_of(finished.usage))

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
        model = await gateway.router.resolve(request.model)
        answer = ChatFormat(Heading.of("chatcmpl", model), request.includes_usage)
        events = gateway.generate(model, request.to_generate_request())
        return StreamedAnswer(events, answer.chunk) if request.stream else WholeAnswer(events, answer.whole)

    return router
