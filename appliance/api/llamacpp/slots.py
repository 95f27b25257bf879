"""/slots, as llama.cpp has it: what is computed for whom, from the last heartbeat, and
what a slot's last request left in the cache.

Knows no text of any request.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, GET
/slots and POST /slots.
"""

from __future__ import annotations

from time import perf_counter
from typing import Annotated

import msgspec
from fastapi import Path, Request
from msgspec import UNSET, UnsetType
from pydantic import Field
from starlette.responses import Response

from appliance.api.fields.request import MAX_INT32
from appliance.api.format_router import FormatRouter
from appliance.api.llamacpp.errors import LLAMA_ERRORS
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import BadRequest, Unavailable
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.events import AskResult
from appliance.protocol.health import Slot
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.questions import AskSlot, SlotAction

_MAX_NAME_CHARS = 255


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


class SlotFile(msgspec.Struct):
    filename: str


class SlotTimings(msgspec.Struct, kw_only=True):
    save_ms: float | UnsetType = UNSET
    restore_ms: float | UnsetType = UNSET


class SlotActionRecord(msgspec.Struct, kw_only=True):
    """Tokens (`n_saved`, `n_restored`, `n_erased`) and bytes, as the action has them."""

    id_slot: int
    filename: str | UnsetType = UNSET
    n_saved: int | UnsetType = UNSET
    n_written: int | UnsetType = UNSET
    n_restored: int | UnsetType = UNSET
    n_read: int | UnsetType = UNSET
    n_erased: int | UnsetType = UNSET
    timings: SlotTimings | UnsetType = UNSET


def slot_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp", error_shape=LLAMA_ERRORS)

    @router.get("/slots", response_class=Response, responses=router.returns(list[SlotRecord]))
    async def slots(
        caller: RequestCaller,
        model: Annotated[str, Field(max_length=256)] | None = None,
        fail_on_no_slot: bool = False,
    ) -> Response:
        """The state of a model's slots, at most a second old; an empty list if the
        model is not loaded. Asking does not load it.

        With `fail_on_no_slot` the status is 503 if all slots are busy.
        """
        client = gateway.models_of(caller).resolve(model).client
        info, beat = client.info, client.health().heartbeat
        busy = {} if beat is None else {slot.id: slot for slot in beat.slots}
        if fail_on_no_slot and (info is None or len(busy) >= info.slots):
            raise Unavailable(
                "All slots are busy." if info is not None else "The model is not loaded."
            )
        if info is None:
            return RecordResponse([])
        return RecordResponse([_described(at, busy.get(at), info) for at in range(info.slots)])

    @router.post(
        "/slots/{id_slot}", response_class=Response, responses=router.returns(SlotActionRecord)
    )
    async def slot_action(
        request: Request,
        caller: RequestCaller,
        id_slot: Annotated[int, Path(ge=0, le=MAX_INT32)],
        action: SlotAction,
        model: Annotated[str, Field(max_length=256)] | None = None,
    ) -> Response:
        """Saves what the slot's last request left in the cache under the body's
        `filename`, restores such a file, or erases it from the cache.

        A restored prompt is found by any request that begins with it, in any slot.
        """
        served = gateway.models_of(caller).resolve(model)
        name = "" if action is SlotAction.ERASE else _file_name(await request.body())
        began_s = perf_counter()
        result = await gateway.ask(caller, served, AskSlot(id_slot, action, name))
        took_ms = (perf_counter() - began_s) * 1000
        return RecordResponse(_done(id_slot, action, name, result, took_ms))

    return router


def _file_name(body: bytes) -> str:
    """Raises `BadRequest`."""
    try:
        name = msgspec.json.decode(body, type=SlotFile).filename
    except (ValueError, RecursionError) as error:
        raise BadRequest(
            f"The body must be a JSON object with 'filename': {error}.", param="filename"
        ) from error
    if not name or len(name) > _MAX_NAME_CHARS or name[0] == "." or not name.isprintable():
        raise BadRequest("Invalid 'filename': it is empty, too long or hidden.", param="filename")
    if any(separator in name for separator in "/\\"):
        raise BadRequest("Invalid 'filename': it is a path, not a name.", param="filename")
    return name


def _done(
    id_slot: int, action: SlotAction, name: str, result: AskResult, took_ms: float
) -> SlotActionRecord:
    record = SlotActionRecord(id_slot=id_slot)
    if action is SlotAction.ERASE:
        record.n_erased = result.num_tokens
        return record
    record.filename = name
    if action is SlotAction.SAVE:
        record.n_saved, record.n_written = result.num_tokens, result.num_bytes
        record.timings = SlotTimings(save_ms=took_ms)
    else:
        record.n_restored, record.n_read = result.num_tokens, result.num_bytes
        record.timings = SlotTimings(restore_ms=took_ms)
    return record


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
