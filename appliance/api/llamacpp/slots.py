"""GET /slots, as llama.cpp has it: what is computed for whom, from the last heartbeat.

Knows no text of any request.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, GET
/slots.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import Field
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import Unavailable
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.health import Slot
from appliance.protocol.model_info import ModelInfo


class SlotParams(msgspec.Struct):
    n_predict: int


class SlotProgress(msgspec.Struct):
    has_next_token: bool
    n_remain: int
    n_decoded: int


class SlotRecord(msgspec.Struct, kw_only=True):
    """llama-server's fields, plus our `state`."""

    id: int
    id_task: int
    n_ctx: int
    speculative: bool
    is_processing: bool
    state: str
    # while it is busy
    params: SlotParams | UnsetType = UNSET
    n_prompt_tokens: int | UnsetType = UNSET
    n_prompt_tokens_processed: int | UnsetType = UNSET
    n_prompt_tokens_cache: int | UnsetType = UNSET
    next_token: SlotProgress | UnsetType = UNSET


def slot_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp")

    @router.get("/slots", response_class=Response, responses=router.returns(list[SlotRecord]))
    async def slots(
        model: Annotated[str, Field(max_length=256)] | None = None, fail_on_no_slot: bool = False
    ) -> Response:
        """The state of a model's slots, at most a second old; an empty list if the
        model is not loaded. Asking does not load it.

        With `fail_on_no_slot` the status is 503 if all slots are busy.
        """
        client = gateway.router.resolve(model).client
        info, beat = client.info, client.health().heartbeat
        busy = {} if beat is None else {slot.id: slot for slot in beat.slots}
        if fail_on_no_slot and (info is None or len(busy) >= info.slots):
            raise Unavailable(
                "All slots are busy." if info is not None else "The model is not loaded."
            )
        if info is None:
            return RecordResponse([])
        return RecordResponse([_described(at, busy.get(at), info) for at in range(info.slots)])

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
    record.params = SlotParams(slot.max_new_tokens)
    record.n_prompt_tokens = slot.num_prompt_tokens
    record.n_prompt_tokens_processed = slot.num_prefilled_tokens - slot.num_cached_tokens
    record.n_prompt_tokens_cache = slot.num_cached_tokens
    record.next_token = SlotProgress(
        True, slot.max_new_tokens - slot.num_new_tokens, slot.num_new_tokens
    )
    return record
