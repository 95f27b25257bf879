"""Responses by their ids: shown, followed, listed by items, cancelled, deleted.

Knows no table, and no fields of a request.

Source: https://platform.openai.com/docs/api-reference/responses/get
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import Query
from starlette.responses import Response

from appliance.api.fields.request import MAX_INT32
from appliance.api.format_router import FormatRouter
from appliance.api.openai.responses.background import (
    BackgroundResponses,
    not_in_background,
    not_streamed,
)
from appliance.api.openai.responses.pages import ItemList, RequestedPage
from appliance.api.openai.responses.turn import shown_history, store_of
from appliance.api.openai.responses.wire import ResponseRecord, StreamEvent
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.api.transport.streamed_response import StreamedResponse
from appliance.gateway.lifecycle import Gateway


class DeletedResponse(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


def add_stored_routes(
    router: FormatRouter, gateway: Gateway, background: BackgroundResponses
) -> None:
    shown = router.returns(ResponseRecord)
    followed = router.returns(ResponseRecord, stream=StreamEvent)

    @router.get("/v1/responses/{response_id}", responses=followed)
    async def retrieve_response(
        response_id: str,
        caller: RequestCaller,
        stream: bool = False,
        starting_after: Annotated[int, Query(ge=-1, le=MAX_INT32)] = -1,
    ) -> Response:
        """A stored response as it is now; with `stream`, the events of one in the
        background, after the one with the number `starting_after`.
        """
        store = store_of(gateway)
        running = background.find(caller.id, response_id)
        if stream and running is not None:
            return StreamedResponse(*running.followed(starting_after))
        if running is not None:
            return RecordResponse(running.record)
        record = await store.record(caller.id, response_id)
        if stream:
            raise not_streamed()
        return RecordResponse(msgspec.Raw(record))

    @router.delete("/v1/responses/{response_id}", responses=router.returns(DeletedResponse))
    async def delete_response(response_id: str, caller: RequestCaller) -> Response:
        """Deletes a stored response; what continues it keeps what was said. One in the
        background is cancelled before.
        """
        store = store_of(gateway)
        if (running := background.find(caller.id, response_id)) is not None:
            await background.forget(running)
        await store.delete(caller.id, response_id)
        return RecordResponse(DeletedResponse(id=response_id))

    @router.post("/v1/responses/{response_id}/cancel", responses=shown)
    async def cancel_response(response_id: str, caller: RequestCaller) -> Response:
        """Ends a response in the background; one that has ended is left as it is."""
        store = store_of(gateway)
        if (running := background.find(caller.id, response_id)) is not None:
            await background.cancel(running)
            return RecordResponse(running.record)
        record = await store.record(caller.id, response_id)
        if not msgspec.json.decode(record)["background"]:
            raise not_in_background()
        return RecordResponse(msgspec.Raw(record))

    @router.get("/v1/responses/{response_id}/input_items", responses=router.returns(ItemList))
    async def list_input_items(
        response_id: str, caller: RequestCaller, page: RequestedPage
    ) -> Response:
        """The items that a stored response responds to, with those that it continues."""
        turns = await store_of(gateway).history(caller.id, response_id)
        return RecordResponse(page.of(shown_history(turns)))
