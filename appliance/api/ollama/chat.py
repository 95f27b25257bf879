"""POST /api/chat: its request to a GenerateRequest, events to its records.

Knows no sampling and no transport.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET
from pydantic import Field, field_validator
from starlette.responses import Response

from appliance.api.errors import Failure
from appliance.api.fields.chat_messages import MAX_MESSAGES, InputMessage, chat_prompt
from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.parameters import Label
from appliance.api.fields.tools import ToolFields
from appliance.api.format_router import FormatRouter
from appliance.api.ollama.answers import answer, loaded
from appliance.api.ollama.errors import OLLAMA_ERRORS, ollama_error
from appliance.api.ollama.names import resolve
from appliance.api.ollama.request import GeneratingRequest
from appliance.api.ollama.times import Stopwatch
from appliance.api.ollama.wire import (
    CalledFunction,
    ChatRecord,
    MessageRecord,
    ToolCallRecord,
    logprob_records,
)
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.completed_choice import CompletedChoice, CompletedToolCall
from appliance.api.transport.ndjson import JSON_LINES
from appliance.api.transport.wire_format import StreamItem
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import ServedModel
from appliance.protocol.events import Delta, Event, Finished, Route, Started, ToolCallPart
from appliance.protocol.requests import GenerateRequest

# --- request --------------------------------------------------------------------------


class OllamaMessage(InputMessage):
    """Results of tools name the tool, not the call: they belong to the calls before
    them, in order. Clients that cut off the beginning of a long conversation may leave
    one without its call.
    """

    needs_call: ClassVar[bool] = False

    tool_name: Label | None = None
    images: Annotated[Any, NeutralOnly([])] = None

    @field_validator("role", mode="before")
    @classmethod
    def _in_lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    def for_template(self) -> dict[str, Any]:
        own = super().for_template()
        if self.role == "tool" and self.tool_name is not None:
            own.setdefault("name", self.tool_name)
        return own


class OllamaChatRequest(ToolFields, GeneratingRequest):
    messages: Annotated[
        list[OllamaMessage],
        Field(max_length=MAX_MESSAGES, fail_fast=True, default_factory=list),
    ]

    def to_generate_request(self, model: ServedModel) -> GenerateRequest:
        options = self.options_for(model)
        tools = [function.for_template() for function in self.shown_tools()]
        return GenerateRequest(
            prompt=chat_prompt(self._conversation(model), None, tools, self.effort),
            sampling=options.sampling(self.num_top_logprobs),
            max_tokens=options.num_predict,
            stop=options.stop or [],
            shifts_context=bool(self.shift),
            keep_alive_s=self.keep_alive,
            grammar=self.grammar(),
            tool_calls=self.tool_call_rules(),
            includes_times=True,
        )

    def _conversation(self, model: ServedModel) -> list[OllamaMessage]:
        """With the model's own system message, unless there is one, and beginning."""
        defaults = model.defaults
        begun = [OllamaMessage.model_validate({**each}) for each in defaults.messages]
        has_system = any(message.role == "system" for message in self.messages)
        if defaults.system and not has_system:
            begun.insert(0, OllamaMessage(role="system", content=defaults.system))
        return [*begun, *self.messages]


# --- response -------------------------------------------------------------------------


@dataclass
class ChatFormat:
    """See `WireFormat`. Calls are written whole, for their arguments are objects here."""

    model: str  # as it was asked for; of `auto` the one that answers, once that is known
    stopwatch: Stopwatch
    has_top_logprobs: bool = False
    _calls: list[CompletedToolCall] = field(default_factory=list)
    _num_written: int = 0

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:  # noqa: ARG002  # one choice
        self._told(event.route if isinstance(event, Started) else None)
        if isinstance(event, Delta):
            if event.tool_call is not None:
                return self._grow(event.tool_call)
            if event.text or event.reasoning or event.tokens:
                return (self._delta(event),)
            return ()
        if isinstance(event, Finished):
            last = self._record(MessageRecord())
            last.finish(event, self.stopwatch)
            return (*self._written_calls(len(self._calls)), last)
        return ()

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return ()

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (ollama_error(failure),)

    def whole(self, choices: Sequence[CompletedChoice]) -> ChatRecord:
        [choice] = choices
        self._told(choice.route)
        message = _with_calls(choice.tool_calls, 0)
        message.content = choice.text + message.content
        message.thinking = choice.reasoning or UNSET
        record = self._record(message)
        record.logprobs = logprob_records(choice.tokens, has_top=self.has_top_logprobs)
        record.finish(choice.finished, self.stopwatch)
        return record

    def _told(self, route: Route | None) -> None:
        """Of the model `auto`, which one answers."""
        if route is not None:
            self.model = route.model

    def nothing(self) -> ChatRecord:
        """Of a request that asks for no answer."""
        return self._record(MessageRecord())

    def _delta(self, event: Delta) -> ChatRecord:
        message = MessageRecord(content=event.text, thinking=event.reasoning or UNSET)
        record = self._record(message)
        record.logprobs = logprob_records(event.tokens, has_top=self.has_top_logprobs)
        return record

    def _grow(self, part: ToolCallPart) -> Sequence[ChatRecord]:
        """The call before is complete where another one begins."""
        written: Sequence[ChatRecord] = ()
        if part.name:
            written = self._written_calls(len(self._calls))
            self._calls.append(CompletedToolCall(part.id, part.name))
        self._calls[part.index].arguments += part.arguments
        return written

    def _written_calls(self, until: int) -> Sequence[ChatRecord]:
        calls, first = self._calls[self._num_written : until], self._num_written
        self._num_written = until
        return (self._record(_with_calls(calls, first)),) if calls else ()

    def _record(self, message: MessageRecord) -> ChatRecord:
        return ChatRecord(model=self.model, created_at=self.stopwatch.now(), message=message)


def _with_calls(calls: Sequence[CompletedToolCall], first: int) -> MessageRecord:
    """A call that broke off is no object: what there is of it is told as text."""
    message = MessageRecord()
    records = []
    for index, call in enumerate(calls, first):
        arguments = _object(call.arguments)
        if arguments is None:
            message.content += f"{call.name}: {call.arguments}"
            continue
        function = CalledFunction(index=index, name=call.name, arguments=arguments)
        records.append(ToolCallRecord(id=call.id, function=function))
    message.tool_calls = records or UNSET
    return message


def _object(arguments: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def chat_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("ollama", error_shape=OLLAMA_ERRORS)
    described = router.returns(ChatRecord, stream=ChatRecord, framing=JSON_LINES)

    @router.post("/api/chat", responses=described)
    async def chat(request: OllamaChatRequest, caller: RequestCaller) -> Response:
        """Responds to a conversation, as lines of JSON or, with `stream` false, whole.
        Without messages the model is loaded, or with `keep_alive` 0 unloaded.
        """
        stopwatch = Stopwatch()
        model = resolve(gateway.models_of(caller), request.model)
        wire_format = ChatFormat(
            request.model or model.id, stopwatch, has_top_logprobs=bool(request.top_logprobs)
        )
        if not request.messages:
            return loaded(gateway, model, request, wire_format.nothing())
        events = gateway.generate_choices(
            caller, model, [request.to_generate_request(model)], is_whole=not request.is_streamed
        )
        return answer(stopwatch.watched(events), wire_format, is_streamed=request.is_streamed)

    return router
