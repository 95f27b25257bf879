"""WS /v1/responses: turns of conversations, one after the other in each lane.

Knows no items and no bytes.

Source: https://developers.openai.com/api/docs/guides/websocket-mode, and the types
`ResponsesClientEvent` and `ResponsesServerEvent` of OpenAI's clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.types import Scope

from appliance.api.errors import Failure
from appliance.api.openai.errors import openai_error
from appliance.api.openai.responses.request import ResponsesRequest
from appliance.api.openai.responses.routes import begin_turn, refuse_background
from appliance.api.openai.responses.turn import Turn, turn_of, with_earlier
from appliance.api.transport.pump import pump
from appliance.api.transport.unenforced import UNENFORCED_HEADER, unenforced_headers
from appliance.api.transport.websocket.connection import MessageConnection
from appliance.api.transport.wire_format import EndMark, NamedRecord, StreamItem
from appliance.api.websocket.bodies import read_body
from appliance.api.websocket.conversations import Conversations
from appliance.api.websocket.failures import InvalidMessage, failure_of, refusal_of
from appliance.api.websocket.message_log import MessageLog
from appliance.api.websocket.messages import decoded
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway
from appliance.logs import REQUEST_ID
from appliance.protocol.events import Route

MAX_LANES = 32  # with names, as at OpenAI
MAX_TURNS = 32  # in progress or waiting on one connection
_MAX_LANE_CHARS = 128
# Of the envelope, or of what a WebSocket always does: no field of a response.
_ENVELOPE = frozenset({"type", "stream_id", "generate", "stream", "stream_options"})

_encode = msgspec.json.Encoder().encode


@dataclass
class _Lane:
    """Its turns come one after the other, in the order of their messages."""

    extra: dict[str, str]  # a field of each of its events
    order: asyncio.Lock = field(default_factory=asyncio.Lock)


class ResponseLanes:
    """Those of one connection."""

    def __init__(
        self, connection: MessageConnection, gateway: Gateway, caller: Caller, *, scope: Scope
    ) -> None:
        self._connection = connection
        self._gateway = gateway
        self._caller = caller
        self._scope = scope
        self._lanes: dict[str | None, _Lane] = {None: _Lane({})}
        self._conversations = Conversations()
        self._num_turns = 0
        self._log = MessageLog(scope, caller)

    async def handle(self, data: bytes) -> None:
        """One event of the client's."""
        extra: dict[str, str] = {}
        try:
            event = decoded(data)
            lane_id = _lane_id(event)
            extra = {} if lane_id is None else {"stream_id": lane_id}
            if event.get("type") != "response.create":
                raise InvalidMessage.of_field("type", "It must be 'response.create'")
            if self._num_turns >= MAX_TURNS:
                raise refusal_of(
                    429,
                    f"{MAX_TURNS} responses are in progress or wait on this connection, which is "
                    "the limit.",
                    "queue_full",
                )
            lane = self._lane(lane_id, extra)
        except InvalidMessage as invalid:
            await self._tell(extra, invalid.failure)
            return
        self._num_turns += 1
        self._connection.start(self._run(lane_id, lane, event))

    def _lane(self, lane_id: str | None, extra: dict[str, str]) -> _Lane:
        """Raises `InvalidMessage`."""
        lane = self._lanes.get(lane_id)
        if lane is None:
            if len(self._lanes) > MAX_LANES:
                raise refusal_of(
                    400,
                    f"A connection has at most {MAX_LANES} lanes: use one of them again, or "
                    "connect once more.",
                    "websocket_stream_limit_reached",
                    param="stream_id",
                )
            lane = self._lanes[lane_id] = _Lane(extra)
        return lane

    async def _run(self, lane_id: str | None, lane: _Lane, event: Mapping[str, Any]) -> None:
        try:
            with self._log.request("response") as outcome:
                async with lane.order:
                    outcome.status = await self._status_of(lane_id, lane, event)
        finally:
            self._num_turns -= 1

    async def _status_of(self, lane_id: str | None, lane: _Lane, event: Mapping[str, Any]) -> int:
        """HTTP's, of a turn at its end."""
        try:
            await self._turn(lane_id, lane, event)
        except Exception as error:  # noqa: BLE001  # others on this connection go on
            failure = failure_of(error)
            await self._tell(lane.extra, failure)
            return failure.status
        return HTTPStatus.OK

    async def _turn(self, lane_id: str | None, lane: _Lane, event: Mapping[str, Any]) -> None:
        is_warmup = event.get("generate") is False
        body = {name: value for name, value in event.items() if name not in _ENVELOPE}
        # Nothing said yet: the instructions and tools in front of it can be computed.
        said = ("input", "previous_response_id", "conversation")
        is_empty = is_warmup and not any(event.get(name) for name in said)
        if is_empty:
            body["input"] = ""
        request, ignored = read_body(ResponsesRequest, body, self._scope)
        refuse_background(request)
        turn = await self._turn_of(request)
        turn = replace(turn, new=()) if is_empty else turn
        events, responses = begin_turn(self._gateway, self._caller, turn, is_warmup=is_warmup)
        sink = _EventSink(self._connection.send, lane.extra, ignored)
        await pump(events, responses, sink)
        if responses.record.status != "failed" and turn.store is None:
            self._conversations.remember(lane_id, turn.items, responses.record)

    async def _turn_of(self, request: ResponsesRequest) -> Turn:
        """With what the connection knows, else with what is stored."""
        known = self._conversations.find(request.previous_response_id)
        if known is None or request.conversation is not None:
            return await turn_of(self._gateway, self._caller.id, request)
        own = request.model_copy(update={"previous_response_id": None})
        begun = await turn_of(self._gateway, self._caller.id, own)
        turn = with_earlier(request, known.items)
        if begun.store is None:
            return turn
        # all of it is new to the store: what it continues is not there
        return replace(begun, request=turn.request, new=turn.items)

    async def _tell(self, extra: Mapping[str, str], failure: Failure) -> None:
        error = openai_error(failure).error
        told = {"type": "error", "status": failure.status, "error": error, **_id_field(), **extra}
        await self._connection.send(_encode(told))


def _id_field() -> dict[str, str]:
    """Of the request, as the log has it."""
    request_id = REQUEST_ID.get()
    return {"request_id": request_id} if request_id else {}


def _lane_id(event: Mapping[str, Any]) -> str | None:
    """Raises `InvalidMessage`."""
    lane_id = event.get("stream_id")
    if lane_id is None:
        return None
    if not isinstance(lane_id, str) or not 0 < len(lane_id) <= _MAX_LANE_CHARS:
        raise InvalidMessage.of_field(
            "stream_id",
            f"It must be a string of 1 to {_MAX_LANE_CHARS} characters",
            "invalid_stream_id",
        )
    return lane_id


class _EventSink:
    """See `StreamSink`: each event of the format is a message."""

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[None]],
        extra: Mapping[str, str],
        ignored_parameters: str | None,
    ) -> None:
        self._send = send
        self._head = _head_of(extra)
        # over HTTP these are headers; here the first event has them
        self._first = {**extra, **_id_field()}
        if ignored_parameters is not None:
            self._first["ignored_parameters"] = ignored_parameters
        self._is_first = True

    async def start(self, unenforced: Sequence[str], route: Route | None = None) -> None:
        if (places := unenforced_headers(unenforced).get(UNENFORCED_HEADER)) is not None:
            self._first["unenforced_schema"] = places
        if route is not None:
            self._first |= {"auto_model": route.model, "auto_reason": route.reason}

    async def write(self, items: Sequence[StreamItem]) -> None:
        texts = [self._text_of(item) for item in items if not isinstance(item, EndMark)]
        for text in texts:
            await self._send(text)

    def _text_of(self, item: StreamItem) -> bytes:
        head = _head_of(self._first) if self._is_first else self._head
        self._is_first = False
        return head + _encode(item.record if isinstance(item, NamedRecord) else item)[1:]


def _head_of(extra: Mapping[str, str]) -> bytes:
    """The beginning of an object that has these fields, and more."""
    return _encode(extra)[:-1] + b"," if extra else b"{"
