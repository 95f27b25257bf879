"""A wire format that is not OpenAI's, as one that somebody adds: its error's shape, its
records and its routes. Knows no transport.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI
from pydantic import Field
from starlette.responses import Response

from appliance.api.errors import ErrorShape, Failure
from appliance.api.fields.request import RequestModel
from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.completed_choice import CompletedChoice
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.streamed_response import Framing, StreamedResponse
from appliance.api.transport.wire_format import EndMark, NamedRecord, StreamItem
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.events import Delta, Event, Finished
from appliance.protocol.requests import GenerateRequest, TextPrompt


class PlainError(msgspec.Struct):
    """As Ollama writes it."""

    error: str


PLAIN_ERRORS = ErrorShape(PlainError, lambda failure: PlainError(failure.message))


class Piece(msgspec.Struct):
    text: str
    done: bool


class PieceFormat:
    def items(self, index: int, event: Event) -> Sequence[StreamItem]:
        if isinstance(event, Delta) and event.text:
            return (Piece(event.text, done=False),)
        return (NamedRecord("done", Piece("", done=True)),) if isinstance(event, Finished) else ()

    def end(self, finished: Sequence[Finished]) -> Sequence[StreamItem]:
        return (EndMark(f"that was {len(finished)}"),)

    def failed(self, failure: Failure) -> Sequence[StreamItem]:
        return (PLAIN_ERRORS.to_record(failure),)

    def whole(self, choices: Sequence[CompletedChoice]) -> Piece:
        return Piece("".join(choice.text for choice in choices), done=True)


class PieceRequest(RequestModel):
    prompt: Annotated[str, Field(min_length=1)]
    stream: bool = False


class Lines:
    """NDJSON: a record a line; names and marks have no place."""

    media_type = "application/x-ndjson"
    headers: Mapping[str, str] = MappingProxyType({})
    comment = b""

    def frame(self, item: StreamItem) -> bytes:
        if isinstance(item, EndMark):
            return b""
        return msgspec.json.encode(item.record if isinstance(item, NamedRecord) else item) + b"\n"


def add_other_format(app: FastAPI, gateway: Gateway, framing: Framing) -> None:
    router = FormatRouter("other", prefix="/other", error_shape=PLAIN_ERRORS)

    @router.post("/generate", responses=router.returns(Piece, stream=Piece))
    async def generate(request: PieceRequest, caller: RequestCaller) -> Response:
        asked: Any = GenerateRequest(prompt=TextPrompt(request.prompt))
        events = gateway.generate_choices(caller, gateway.router.resolve(None), [asked])
        if request.stream:
            return StreamedResponse(events, PieceFormat(), framing)
        return WholeResponse(events, PieceFormat())

    router.claim_paths(app.state.error_shapes)
    app.include_router(router)
