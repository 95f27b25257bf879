"""GET /v1/streams/{event_id}: the rest of a stream whose connection broke.

Knows no wire format: the stream goes on in its own.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.open_streams import OpenStreams
from appliance.api.transport.streamed_response import SERVER_SENT_EVENTS, ResumedResponse
from appliance.gateway.lifecycle import Gateway

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events after this one.",
        "content": {SERVER_SENT_EVENTS.media_type: {"schema": {"type": "object"}}},
    },
    204: {"description": "The stream has ended with this event."},
}


def stream_routes(_gateway: Gateway) -> FormatRouter:
    router = FormatRouter("streams")

    @router.get("/v1/streams/{event_id}", responses=_RESPONSES)
    async def resume_stream(event_id: str) -> Response:
        """Goes on with a stream after the event of this id, or after that of the header
        `Last-Event-ID`, for whoever cannot send its request again.
        """
        return ResumedResponse(event_id)

    @router.head("/v1/streams/{event_id}", include_in_schema=False)
    async def look_at_stream(request: Request, caller: RequestCaller, event_id: str) -> Response:
        """What `GET` would answer. Nothing is taken from whoever reads the stream."""
        streams: OpenStreams = request.app.state.open_streams
        stream, last = streams.find(request.headers.get("last-event-id") or event_id, caller.id)
        status = 204 if stream.is_over_after(last) else 200
        return Response(status_code=status, media_type=SERVER_SENT_EVENTS.media_type)

    return router
