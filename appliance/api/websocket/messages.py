"""The messages of `/v1/stream`: what clients send, and what comes back.

Knows no endpoint and no format: what a request asks and what its records hold are JSON.

A message that comes back is a head, which names the request as its client does on this
connection, and a tail, which stays the same on whatever connection it is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import MAX_INT32, RequestModel
from appliance.api.transport import json_text
from appliance.api.websocket.failures import InvalidMessage

_MAX_ID_CHARS = 128
_MAX_ID = 2**53  # larger numbers are not the same to every client
RequestId = str | int

_encode = msgspec.json.Encoder().encode


def id_in(message: Mapping[str, Any]) -> RequestId | None:
    """That of a message which may be invalid for the rest; None where there is none."""
    found = message.get("id")
    if isinstance(found, str):
        return found if 0 < len(found) <= _MAX_ID_CHARS else None
    return found if type(found) is int and abs(found) <= _MAX_ID else None


def _checked(value: object) -> RequestId:
    checked = id_in({"id": value})
    if checked is None:
        raise PydanticCustomError(
            "invalid_value",
            "It must be a text of 1 to {most} characters or a whole number.",
            {"most": _MAX_ID_CHARS},
        )
    return checked


_Id = Annotated[RequestId, PlainValidator(_checked)]


class AskMessage(RequestModel):
    type: Literal["chat", "completion", "response"]
    id: _Id  # the client's name of the request, until it has ended
    body: dict[str, Any]  # as it is posted over HTTP


class CancelMessage(RequestModel):
    type: Literal["cancel"]
    id: _Id


class ResumeMessage(RequestModel):
    type: Literal["resume"]
    id: _Id  # on this connection from now on
    stream: Annotated[str, Field(max_length=_MAX_ID_CHARS)]  # as its first message says
    after: Annotated[int, Field(ge=0, le=MAX_INT32)]  # the index of the last message received


class PingMessage(RequestModel):
    type: Literal["ping"]
    id: _Id | None = None


ClientMessage = AskMessage | CancelMessage | ResumeMessage | PingMessage
_MODELS: dict[str, type[ClientMessage]] = {
    "chat": AskMessage,
    "completion": AskMessage,
    "response": AskMessage,
    "cancel": CancelMessage,
    "resume": ResumeMessage,
    "ping": PingMessage,
}


def read_message(message: Mapping[str, Any]) -> ClientMessage:
    """Raises `InvalidMessage`."""
    kind = message.get("type")
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        allowed = ", ".join(f"'{each}'" for each in _MODELS)
        raise InvalidMessage.of_field("type", f"It must be one of {allowed}")
    try:
        return model.model_validate(message)
    except ValidationError as error:
        raise InvalidMessage.of(error) from error


def decoded(data: bytes) -> dict[str, Any]:
    """Raises `InvalidMessage`."""
    try:
        message = json_text.decode(data)
    except ValueError as error:
        raise InvalidMessage.no_json(str(error)) from error
    if not isinstance(message, dict):
        raise InvalidMessage.no_object()
    return message


class ServerMessage(msgspec.Struct, kw_only=True):
    """Without its `id`."""

    type: str
    index: int | UnsetType = UNSET  # counted from 0 for each stream
    stream: str | UnsetType = UNSET  # for `resume`, in the first message of a stream
    request_id: str | UnsetType = UNSET  # of `start` and of a refusal: the log's
    status: int | UnsetType = UNSET  # HTTP's, of an error
    cancelled: Literal[True] | UnsetType = UNSET
    ignored_parameters: str | UnsetType = UNSET  # as HTTP's header names them
    unenforced_schema: str | UnsetType = UNSET  # as HTTP's header names it
    auto_model: str | UnsetType = UNSET  # likewise, where the request named `auto`
    auto_reason: str | UnsetType = UNSET
    data: Any = UNSET  # a record of the format


def head_of(request_id: RequestId | None) -> bytes:
    return b'{"id":' + _encode(request_id) + b","


def tail_of(message: ServerMessage) -> bytes:
    return _encode(message)[1:]
