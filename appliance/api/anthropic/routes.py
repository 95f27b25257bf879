"""POST /v1/messages and /v1/messages/count_tokens.

Knows no blocks and no records' fields.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.responses import Response

from appliance.api.anthropic.errors import ANTHROPIC_ERRORS, REQUEST_ID_HEADER, current_request_id
from appliance.api.anthropic.request import CountRequest, MessagesRequest
from appliance.api.anthropic.stream import MessageOptions, MessagesFormat
from appliance.api.anthropic.wire import Message, MessageEvent, TokenCount
from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.completed_choice import ChoiceEvents
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.record_response import RecordResponse
from appliance.api.transport.sse import ServerSentEvents
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.choices import ChoiceEvent
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.gateway.router import ServedModel
from appliance.protocol.events import Finished, FinishReason, Started, Usage
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import ChatPrompt


class _Pinged(ServerSentEvents):
    """A silent stream holds what this format has for it, which some clients wait for."""

    comment = b'event: ping\ndata: {"type":"ping"}\n\n'


_PINGED = _Pinged()


def message_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("anthropic", error_shape=ANTHROPIC_ERRORS)

    @router.post("/v1/messages", responses=router.returns(Message, stream=MessageEvent))
    async def create_message(
        asked: MessagesRequest, caller: RequestCaller, request: Request
    ) -> Response:
        """Responds to a conversation of content blocks, whole or, with `stream`, as
        server-sent events.
        """
        model = gateway.models_of(caller).resolve(asked.model)
        is_probe = asked.is_probe(request.headers.get("user-agent", ""))
        options = MessageOptions(
            message_id=f"msg_{secrets.token_hex(12)}",
            request_id=current_request_id(),
            model=model.id,
            max_tokens=0 if is_probe else asked.most_tokens,
            shows_thinking=asked.shows_thinking,
            omits_thinking=asked.omits_thinking,
        )
        events: ChoiceEvents
        if is_probe:
            events = _counted_only(gateway, caller, model, asked.chat_prompt())
        else:
            ask_timeout(asked.timeout)
            events = gateway.generate_choices(
                caller, model, [asked.to_generate_request()], is_whole=not asked.stream
            )
        messages = MessagesFormat(options)
        response = (
            StreamedResponse(events, messages, _PINGED)
            if asked.stream
            else WholeResponse(events, messages)
        )
        response.headers[REQUEST_ID_HEADER] = options.request_id
        return response

    @router.post("/v1/messages/count_tokens", responses=router.returns(TokenCount))
    async def count_tokens(asked: CountRequest, caller: RequestCaller) -> Response:
        """How many tokens the prompt of such a request has; nothing is computed."""
        model = gateway.models_of(caller).resolve(asked.model)
        result = await gateway.ask(caller, model, Tokenize(asked.chat_prompt()))
        response = RecordResponse(TokenCount(len(result.tokens)))
        response.headers[REQUEST_ID_HEADER] = current_request_id()
        return response

    return router


@asynccontextmanager
async def _counted_only(
    gateway: Gateway, caller: Caller, model: ServedModel, prompt: ChatPrompt
) -> AsyncIterator[AsyncIterator[ChoiceEvent]]:
    """The events of an answer of which only the usage is read: it is empty."""
    result = await gateway.ask(caller, model, Tokenize(prompt))
    num_tokens = len(result.tokens)

    async def happening() -> AsyncIterator[ChoiceEvent]:
        yield ChoiceEvent(0, Started(result.request_id, num_tokens))
        usage = Usage(num_prompt_tokens=num_tokens, num_cached_tokens=0, num_completion_tokens=0)
        yield ChoiceEvent(
            0,
            Finished(request_id=result.request_id, reason=FinishReason.LENGTH, usage=usage),
        )

    yield happening()
