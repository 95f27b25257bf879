"""POST /v1/responses: begun, and then written whole, as a stream, or in the background.

Knows no fields and no events.

Source: https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.openai.responses.background import BackgroundResponses
from appliance.api.openai.responses.request import ResponsesRequest
from appliance.api.openai.responses.stored_routes import add_stored_routes
from appliance.api.openai.responses.stream import ResponsesFormat
from appliance.api.openai.responses.turn import Turn, turn_of
from appliance.api.openai.responses.wire import ResponseRecord, StreamEvent
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import WholeResponse
from appliance.api.transport.record_response import RecordResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.api.transport.wire_format import FormattedEvents
from appliance.errors import BadRequest
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.choice_stream import ChoiceStream
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout


async def begin_response(
    gateway: Gateway, caller: Caller, request: ResponsesRequest
) -> FormattedEvents:
    """Raises `ApplianceError` where the request cannot be served."""
    refuse_background(request)
    turn = await turn_of(gateway, caller.id, request)
    return FormattedEvents(*begin_turn(gateway, caller, turn, is_whole=not request.stream))


def refuse_background(request: ResponsesRequest) -> None:
    """On a WebSocket, which ends what runs on it."""
    if request.background:
        raise BadRequest("Only POST /v1/responses responds in the background.", param="background")


def begin_turn(
    gateway: Gateway,
    caller: Caller,
    turn: Turn,
    *,
    is_warmup: bool = False,
    is_whole: bool = False,
) -> tuple[ChoiceStream, ResponsesFormat]:
    """`is_warmup`: its prompt is computed, and nothing else. `is_whole`: see
    `Gateway.generate_choices`.

    Raises `ApplianceError` where the request cannot be served.
    """
    request = turn.request
    model = gateway.models_of(caller).resolve(request.model)
    record = request.record(model)
    record.store = turn.store is not None
    responses = ResponsesFormat(
        record,
        request.called_names(),
        includes_logprobs=request.includes_logprobs,
        is_warmup=is_warmup,
        on_end=turn.ended,
    )
    asked = request.to_generate_request()
    if is_warmup:
        asked = msgspec.structs.replace(asked, max_tokens=0)
    ask_timeout(request.timeout)
    return gateway.generate_choices(caller, model, [asked], is_whole=is_whole), responses


def response_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")
    background = BackgroundResponses()
    described = router.returns(ResponseRecord, stream=StreamEvent)

    @router.post("/v1/responses", responses=described)
    async def create_response(request: ResponsesRequest, caller: RequestCaller) -> Response:
        """Responds to a conversation of items, whole or,
        with `stream`, as server-sent events; with `background` at once, before there is
        any output.

        Stored for `--store-responses`, unless `store` is false.
        """
        if not request.background:
            events, responses = await begin_response(gateway, caller, request)
            if request.stream:
                return StreamedResponse(events, responses)
            return WholeResponse(events, responses)
        turn = await turn_of(gateway, caller.id, request)
        if turn.store is None:
            raise BadRequest(
                "A response in the background is stored, and this one is not to be: leave out "
                "'background'.",
                param="background",
            )
        begun = begin_turn(gateway, caller, turn, is_whole=not request.stream)
        running = await background.start(turn, *begun)
        if request.stream:
            return StreamedResponse(*running.followed())
        return RecordResponse(running.record)

    add_stored_routes(router, gateway, background)
    return router
