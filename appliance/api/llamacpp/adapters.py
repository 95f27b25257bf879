"""GET and POST /lora-adapters, as llama.cpp has them, where there are no adapters.

Knows no model.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Request
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.llamacpp.errors import LLAMA_ERRORS
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import BadRequest
from appliance.gateway.lifecycle import Gateway


class AdapterScale(msgspec.Struct):
    id: int
    scale: float


class Succeeded(msgspec.Struct):
    success: bool


def adapter_routes(_gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp", error_shape=LLAMA_ERRORS)

    @router.get("/lora-adapters", response_class=Response, responses=router.returns(list[Any]))
    async def lora_adapters() -> Response:
        """The LoRA adapters that are loaded: none, for they are not supported yet."""
        return RecordResponse([])

    @router.post("/lora-adapters", response_class=Response, responses=router.returns(Succeeded))
    async def set_lora_adapters(request: Request) -> Response:
        """Takes an empty list, and scales of 0; refuses any other adapter by its id."""
        try:
            scales = msgspec.json.decode(await request.body(), type=list[AdapterScale])
        except (ValueError, RecursionError) as error:
            raise BadRequest(
                f"The body must be a list of objects with 'id' and 'scale': {error}."
            ) from error
        used = next((each for each in scales if each.scale != 0), None)
        if used is not None:
            raise BadRequest(
                f"There is no LoRA adapter {used.id}: adapters are not supported yet. Leave it "
                "out, or merge it into the model's file.",
                param="id",
            )
        return RecordResponse(Succeeded(success=True))

    return router
