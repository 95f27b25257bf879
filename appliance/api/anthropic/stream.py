"""A choice's events as those of /v1/messages, and as its one message.

Knows no request and no transport.

Source: https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec
from msgspec import UNSET

from appliance.api.anthropic.errors import anthropic_error
from appliance.api.anthropic.wire import (
    Content,
    EventDelta,
    Message,
    MessageEvent,
    MessageUsage,
    OutputTokensDetails,
    TextContent,
    ThinkingContent,
    ToolUseContent,
)
from appliance.api.auto_route import AutoRecord
from appliance.api.errors import Failure
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.wire_format import NamedRecord, StreamItem
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Route,
    Started,
    ToolCallPart,
    Usage,
)

# Clients keep a thinking block only with a signature, and send it back as it came; nobody
# looks at it here.
_SIGNATURE = "YXBwbGlhbmNl"
_NO_INPUT = msgspec.Raw(b"{}")


@dataclass(frozen=True, kw_only=True)
class MessageOptions:
    """What of a request decides how its answer is written."""

    message_id: str
    request_id: str
    model: str
    max_tokens: int | None  # to tell their end from that of the context
    shows_thinking: bool = True
    omits_thinking: bool = False  # its blocks are shown, but empty


class MessagesFormat:
    """See `WireFormat`; a request has one choice.

    Unlike others it remembers: each block has its number, and is closed before the next.
    """

    def __init__(self, options: MessageOptions) -> None:
        self._options = options
        self._num_blocks = 0
        self._open: type[Content] | None = None

    def items(self, index: int, event: Event) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return [NamedRecord(record.type, record) for record in self._records(event)]

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:  # noqa: ARG002  # the Protocol's
        return ()  # `message_stop` was the last

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (NamedRecord("error", anthropic_error(failure, self._options.request_id)),)

    def whole(self, choices: Sequence[CompletedChoice]) -> Message:
        (choice,) = choices
        self._told(choice.route)
        content: list[Content] = []
        if choice.reasoning and self._options.shows_thinking:
            shown = "" if self._options.omits_thinking else choice.reasoning
            content.append(ThinkingContent(thinking=shown, signature=_SIGNATURE))
        if choice.text:
            content.append(TextContent(text=choice.text))
        content += [
            ToolUseContent(id=call.id, name=call.name, input=_input(call.arguments))
            for call in choice.tool_calls
        ]
        message = self._message(content, _usage(choice.finished.usage))
        message.stop_reason = self._stop_reason(choice.finished)
        message.stop_sequence = choice.finished.stop_string or None
        return message

    def _told(self, route: Route | None) -> None:
        """Of the model `auto`, which one answers."""
        if route is not None:
            self._options = replace(self._options, model=route.model)

    def _message(self, content: list[Content], usage: MessageUsage) -> Message:
        usage.service_tier = "standard"
        return Message(
            id=self._options.message_id, model=self._options.model, content=content, usage=usage
        )

    def _records(self, event: Event) -> Iterator[MessageEvent]:
        if isinstance(event, Started):
            self._told(event.route)
            # how many of them the cache has is known at the end, which says it again
            usage = MessageUsage(
                input_tokens=event.num_prompt_tokens, cache_read_input_tokens=0, output_tokens=0
            )
            yield MessageEvent(type="message_start", message=self._message([], usage))
            yield MessageEvent(type="ping")
        elif isinstance(event, Delta):
            yield from self._more(event)
        elif isinstance(event, Finished):
            yield from self._close()
            delta = EventDelta(
                stop_reason=self._stop_reason(event), stop_sequence=event.stop_string or None
            )
            yield MessageEvent(type="message_delta", delta=delta, usage=_usage(event.usage))
            yield MessageEvent(type="message_stop")

    def _more(self, delta: Delta) -> Iterator[MessageEvent]:
        if delta.tool_call is not None:
            yield from self._more_of_call(delta.tool_call)
        elif delta.reasoning:
            if self._options.shows_thinking:
                yield from self._begin(ThinkingContent(thinking="", signature=""))
                if not self._options.omits_thinking:
                    yield self._add(EventDelta(type="thinking_delta", thinking=delta.reasoning))
        elif delta.text:
            yield from self._begin(TextContent(text=""))
            yield self._add(EventDelta(type="text_delta", text=delta.text))

    def _more_of_call(self, call: ToolCallPart) -> Iterator[MessageEvent]:
        if call.name:
            yield from self._close()
            yield from self._begin(ToolUseContent(id=call.id, name=call.name, input=_NO_INPUT))
        if call.arguments:
            yield self._add(EventDelta(type="input_json_delta", partial_json=call.arguments))

    def _begin(self, block: Content) -> Iterator[MessageEvent]:
        """Unless one of its kind is in progress."""
        if self._open is type(block):
            return
        yield from self._close()
        self._open = type(block)
        yield MessageEvent(type="content_block_start", index=self._num_blocks, content_block=block)

    def _add(self, delta: EventDelta) -> MessageEvent:
        return MessageEvent(type="content_block_delta", index=self._num_blocks, delta=delta)

    def _close(self) -> Iterator[MessageEvent]:
        """Ends the block that is in progress, if any."""
        if self._open is None:
            return
        if self._open is ThinkingContent:
            yield self._add(EventDelta(type="signature_delta", signature=_SIGNATURE))
        yield MessageEvent(type="content_block_stop", index=self._num_blocks)
        self._num_blocks += 1
        self._open = None

    def _stop_reason(self, finished: Finished) -> str:
        most = self._options.max_tokens
        if finished.reason is FinishReason.LENGTH:
            is_asked = most is not None and finished.usage.num_completion_tokens >= most
            return "max_tokens" if is_asked else "model_context_window_exceeded"
        if finished.has_tool_calls:
            return "tool_use"
        return "stop_sequence" if finished.stop_string else "end_turn"


def _usage(usage: Usage) -> MessageUsage:
    return MessageUsage(
        input_tokens=usage.num_prompt_tokens - usage.num_cached_tokens,
        cache_read_input_tokens=usage.num_cached_tokens,
        output_tokens=usage.num_completion_tokens,
        output_tokens_details=OutputTokensDetails(usage.num_reasoning_tokens)
        if usage.num_reasoning_tokens
        else UNSET,
        x_auto=AutoRecord.of(usage),
    )


def _input(arguments: str) -> msgspec.Raw:
    """The object itself; what is none, such as half of one, is put into one, as
    Anthropic's documentation does.
    """
    try:
        msgspec.json.decode(arguments, type=dict)
    except msgspec.DecodeError:
        wrapped = {"INVALID_JSON": arguments} if arguments else {}
        return msgspec.Raw(msgspec.json.encode(wrapped))
    return msgspec.Raw(arguments.encode())
