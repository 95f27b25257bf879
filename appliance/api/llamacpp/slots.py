"""GET /slots, as llama.cpp has it: what is computed for whom, from the last heartbeat.

Knows no text of any request.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, GET
/slots.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import Field
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.errors import Unavailable
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.health import Slot
from appliance.protocol.model_info import ModelInfo


class Wanted(msgspec.Struct):
    n_predict: int


class Progress(msgspec.Struct):
    has_next_token: bool
    n_remain: int
    n_decoded: int


class SlotRecord(msgspec.Struct, kw_only=True):
    """llama-server's fields, and `state`, which is ours; the last ones are there while
    it is busy.
    """

    id: int
    id_task: int
    n_ctx: int
    speculative: bool
    is_processing: bool
    state: str
    params: Wanted | UnsetType = UNSET
    n_prompt_tokens: int | UnsetType = UNSET
    n_prompt_tokens_processed: int | UnsetType = UNSET
    n_prompt_tokens_cache: int | UnsetType = UNSET
    next_token: Progress | UnsetType = UNSET


def slot_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["llama.cpp"], responses=RESPONSES)

    @router.get("/slots", response_class=Response, responses=answers(list[SlotRecord]))
    async def slots(
        model: Annotated[str, Field(max_length=256)] | None = None, fail_on_no_slot: bool = False
    ) -> Response:
        """A model's slots, at most a second old; none where it is not loaded, which
        asking does not change.

        With `fail_on_no_slot` 503 if all are busy.
        """
        client = gateway.router.resolve(model).client
        info, beat = client.info, client.health().heartbeat
        busy = {} if beat is None else {slot.id: slot for slot in beat.slots}
        if fail_on_no_slot and (info is None or len(busy) >= info.slots):
            raise Unavailable(
                "No slot is free." if info is not None else "The model is not loaded."
            )
        told = (
            [] if info is None else [_described(at, busy.get(at), info) for at in range(info.slots)]
        )
        return Response(msgspec.json.encode(told), media_type="application/json")

    return router


def _described(slot_id: int, slot: Slot | None, info: ModelInfo) -> SlotRecord:
    record = SlotRecord(
        id=slot_id,
        id_task=-1 if slot is None else slot.request_id,
        n_ctx=info.ctx,
        speculative=not info.speculation.startswith("off"),
        is_processing=slot is not None,
        state="idle" if slot is None else slot.state,
    )
    if slot is None:
        return record
    record.params = Wanted(slot.max_new_tokens)
    record.n_prompt_tokens = slot.num_prompt_tokens
    record.n_prompt_tokens_processed = slot.num_prefilled_tokens - slot.num_cached_tokens
    record.n_prompt_tokens_cache = slot.num_cached_tokens
    record.next_token = Progress(
        True, slot.max_new_tokens - slot.num_new_tokens, slot.num_new_tokens
    )
    return record
