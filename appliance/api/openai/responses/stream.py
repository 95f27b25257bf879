"""A choice's events as those of /v1/responses, and as its one object.

Knows no request and no transport.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec
from msgspec import UNSET

from appliance.api.auto_route import AutoRecord
from appliance.api.errors import Failure
from appliance.api.openai.errors import openai_error
from appliance.api.openai.logprobs import chat_logprobs
from appliance.api.openai.responses.tools import CalledName
from appliance.api.openai.responses.wire import (
    CachedTokens,
    IncompleteDetails,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputText,
    ReasoningText,
    ReasoningTokens,
    ResponseRecord,
    ResponseUsage,
    StreamEvent,
)
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.wire_format import NamedRecord, StreamItem
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Route,
    SampledToken,
    Started,
    ToolCallPart,
)

_DONE, _RUNNING, _CUT, _QUEUED = "completed", "in_progress", "incomplete", "queued"


class ResponsesFormat:
    """See `WireFormat`; a request has one choice.

    Unlike others it remembers: each event has its number and its place.
    """

    def __init__(
        self,
        record: ResponseRecord,
        called_names: Mapping[str, CalledName],
        *,
        includes_logprobs: bool = False,
        is_warmup: bool = False,
        on_end: Callable[[ResponseRecord], None] | None = None,
    ) -> None:
        """`called_names`: what the client calls each function that the model knows by
        another name. `is_warmup`: the response is complete without any output. `on_end`
        is given the response when it has ended, before anybody is told.
        """
        self._record = record
        self._is_warmup = is_warmup
        self._called_names = called_names
        self._includes_logprobs = includes_logprobs
        self._on_end = on_end
        self._num_events = 0

    @property
    def record(self) -> ResponseRecord:
        """The response so far."""
        return self._record

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return [self._named(record) for record in self._records(event)]

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return ()  # the last event has it all

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        self._record.status, self._record.error = "failed", openai_error(failure).error
        self._ended()
        return (self._named(self._about_response("response.failed")),)

    def queued(self) -> Sequence[StreamItem]:
        """What a stream holds of a response that has to wait; `Started` then ends that."""
        self._record.status = _QUEUED
        kinds = ("response.created", "response.queued")
        return [self._named(self._about_response(kind)) for kind in kinds]

    def cancelled(self) -> None:
        """The stream just ends."""
        self._record.status = "cancelled"
        for item in self._record.output[-1:]:
            item.status = _CUT if item.status == _RUNNING else item.status
        self._ended()

    def whole(self, choices: Sequence[CompletedChoice]) -> ResponseRecord:
        (choice,) = choices
        self._told(choice.route)
        if choice.reasoning:
            self._add(_reasoning(choice.reasoning))
        if choice.text:
            self._add(_message(choice.text, self._logprobs(choice.tokens)))
        for call in choice.tool_calls:
            self._add(self._call(call.id, call.name, call.arguments))
        self._finish(choice.finished)
        return self._record

    @staticmethod
    def _named(record: StreamEvent) -> NamedRecord:
        return NamedRecord(record.type, record)

    def _ended(self) -> None:
        if self._on_end is not None:
            self._on_end(self._record)

    def _told(self, route: Route | None) -> None:
        """Of the model `auto`, which one answers."""
        if route is not None:
            self._record.model = route.model

    def _about_response(self, kind: str) -> StreamEvent:
        return StreamEvent(type=kind, sequence_number=self._next(), response=self._record)

    def _next(self) -> int:
        self._num_events += 1
        return self._num_events - 1

    def _records(self, event: Event) -> Iterator[StreamEvent]:
        if isinstance(event, Started):
            self._told(event.route)
            if self._record.status != _QUEUED:
                yield self._about_response("response.created")
            self._record.status = _RUNNING
            yield self._about_response("response.in_progress")
        elif isinstance(event, Delta):
            yield from self._more(event)
        elif isinstance(event, Finished):
            is_cut = self._is_cut(event)
            yield from self._close(_CUT if is_cut else _DONE)
            self._finish(event)
            yield self._about_response("response.incomplete" if is_cut else "response.completed")

    def _more(self, delta: Delta) -> Iterator[StreamEvent]:
        if delta.tool_call is not None:
            yield from self._more_of_call(delta.tool_call)
        elif delta.reasoning:
            yield from self._open(OutputReasoning)
            part = self._record.output[-1]
            assert isinstance(part, OutputReasoning)
            part.content[0].text += delta.reasoning
            yield self._about_item(
                "response.reasoning_text.delta", content_index=0, delta=delta.reasoning
            )
        elif delta.text:
            yield from self._open(OutputMessage)
            message = self._record.output[-1]
            assert isinstance(message, OutputMessage)
            logprobs = self._logprobs(delta.tokens)
            message.content[0].text += delta.text
            message.content[0].logprobs += logprobs
            yield self._about_item(
                "response.output_text.delta", content_index=0, delta=delta.text, logprobs=logprobs
            )

    def _more_of_call(self, call: ToolCallPart) -> Iterator[StreamEvent]:
        if call.name:
            yield from self._close(_DONE)
            yield from self._begin(self._call(call.id, call.name, "", _RUNNING))
        if call.arguments:
            item = self._record.output[-1]
            assert isinstance(item, OutputCall)
            item.arguments += call.arguments
            yield self._about_item("response.function_call_arguments.delta", delta=call.arguments)

    def _open(self, kind: type[OutputMessage] | type[OutputReasoning]) -> Iterator[StreamEvent]:
        """Begins an item of this kind, unless one is in progress."""
        output = self._record.output
        if output and isinstance(output[-1], kind) and output[-1].status == _RUNNING:
            return
        yield from self._close(_DONE)
        item = _message("", [], _RUNNING) if kind is OutputMessage else _reasoning("", _RUNNING)
        yield from self._begin(item)
        part = deepcopy(item.content[0])  # as it is now: the item's own grows
        yield self._about_item("response.content_part.added", content_index=0, part=part)

    def _begin(self, item: OutputItem) -> Iterator[StreamEvent]:
        self._add(item)
        now: dict[str, Any] = {} if isinstance(item, OutputCall) else {"content": []}
        shown = msgspec.structs.replace(item, **now)
        yield self._about_item("response.output_item.added", item=shown, item_id=UNSET)

    def _close(self, status: str) -> Iterator[StreamEvent]:
        """Ends the item that is in progress, if any."""
        item = self._record.output[-1] if self._record.output else None
        if item is None or item.status != _RUNNING:
            return
        item.status = status
        if isinstance(item, OutputCall):
            done = "response.function_call_arguments.done"
            yield self._about_item(done, name=item.name, arguments=item.arguments)
        else:
            part = item.content[0]
            if isinstance(part, OutputText):
                yield self._about_item(
                    "response.output_text.done",
                    content_index=0,
                    text=part.text,
                    logprobs=part.logprobs,
                )
            else:
                yield self._about_item(
                    "response.reasoning_text.done", content_index=0, text=part.text
                )
            yield self._about_item("response.content_part.done", content_index=0, part=part)
        yield self._about_item("response.output_item.done", item=item, item_id=UNSET)

    def _about_item(self, kind: str, **fields: Any) -> StreamEvent:
        output = self._record.output
        known = {"item_id": output[-1].id, "output_index": len(output) - 1, **fields}
        return StreamEvent(type=kind, sequence_number=self._next(), **known)

    def _call(self, call_id: str, name: str, arguments: str, status: str = _DONE) -> OutputCall:
        called = self._called_names.get(name, CalledName(name, None))
        return OutputCall(
            id=_id("fc"),
            status=status,
            call_id=call_id,
            name=called.name,
            namespace=UNSET if called.namespace is None else called.namespace,
            arguments=arguments,
        )

    def _add(self, item: OutputItem) -> None:
        self._record.output.append(item)

    def _is_cut(self, finished: Finished) -> bool:
        return finished.reason is FinishReason.LENGTH and not self._is_warmup

    def _finish(self, finished: Finished) -> None:
        record, usage = self._record, finished.usage
        is_cut = self._is_cut(finished)
        record.status = _CUT if is_cut else _DONE
        record.completed_at = None if is_cut else int(time.time())
        record.incomplete_details = IncompleteDetails("max_output_tokens") if is_cut else None
        if is_cut and record.output:
            record.output[-1].status = _CUT
        record.usage = ResponseUsage(
            input_tokens=usage.num_prompt_tokens,
            input_tokens_details=CachedTokens(usage.num_cached_tokens),
            output_tokens=usage.num_completion_tokens,
            output_tokens_details=ReasoningTokens(usage.num_reasoning_tokens),
            total_tokens=usage.num_prompt_tokens + usage.num_completion_tokens,
            x_auto=AutoRecord.of(usage),
        )
        self._ended()

    def _logprobs(self, tokens: list[SampledToken] | None) -> list[Any]:
        return [*chat_logprobs(tokens or []).content] if self._includes_logprobs else []


def _message(text: str, logprobs: list[Any], status: str = _DONE) -> OutputMessage:
    return OutputMessage(
        id=_id("msg"), status=status, content=[OutputText(text=text, logprobs=logprobs)]
    )


def _reasoning(text: str, status: str = _DONE) -> OutputReasoning:
    return OutputReasoning(id=_id("rs"), status=status, content=[ReasoningText(text=text)])


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
