"""/v1/batches: many requests in a file, answered when nobody else wants the machine.

Knows no line and no schedule.

Source: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response

from appliance.api.fields.request import RequestModel
from appliance.api.format_router import FormatRouter
from appliance.api.openai.batches.fields import (
    CompletionWindow,
    ExpiresAfter,
    Metadata,
    batches_of,
)
from appliance.api.openai.batches.wire import BatchList, BatchRecord, batch_record
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.durations import duration_s
from appliance.gateway.batches.paging import PageQuery
from appliance.gateway.batches.records import NewBatch
from appliance.gateway.lifecycle import Gateway


class BatchRequest(RequestModel):
    input_file_id: Annotated[str, Field(max_length=256)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: CompletionWindow
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


def batch_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")

    @router.post("/v1/batches", responses=router.returns(BatchRecord))
    async def create_batch(request: BatchRequest, caller: RequestCaller) -> Response:
        """Has the requests in a file answered, each line one of them, when nobody else
        wants the machine.
        """
        expiry = request.output_expires_after
        batch = await batches_of(gateway).create(
            NewBatch(
                caller_id=caller.id,
                endpoint=request.endpoint,
                input_file_id=request.input_file_id,
                completion_window=request.completion_window,
                window_s=int(duration_s(request.completion_window)),
                metadata=request.metadata,
                output_lifetime_s=None if expiry is None else expiry.seconds,
            )
        )
        return RecordResponse(batch_record(batch))

    @router.get("/v1/batches", responses=router.returns(BatchList))
    async def list_batches(
        caller: RequestCaller,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """The caller's batches, the latest first, a page at a time."""
        page = await batches_of(gateway).page(caller.id, PageQuery(limit=limit, after=after))
        records = [batch_record(batch) for batch in page.items]
        return RecordResponse(
            BatchList(
                data=records,
                first_id=records[0].id if records else None,
                last_id=records[-1].id if records else None,
                has_more=page.has_more,
            )
        )

    @router.get("/v1/batches/{batch_id}", responses=router.returns(BatchRecord))
    async def retrieve_batch(batch_id: str, caller: RequestCaller) -> Response:
        """How far a batch has come."""
        return RecordResponse(batch_record(await batches_of(gateway).find(caller.id, batch_id)))

    @router.post("/v1/batches/{batch_id}/cancel", responses=router.returns(BatchRecord))
    async def cancel_batch(batch_id: str, caller: RequestCaller) -> Response:
        """Answers no more of a batch's lines; those that were answered are in its files."""
        return RecordResponse(batch_record(await batches_of(gateway).cancel(caller.id, batch_id)))

    return router
