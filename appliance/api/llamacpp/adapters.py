"""GET and POST /lora-adapters, as llama.cpp has them: a model's LoRA adapters, and how
strongly they act on requests that name none.

Knows no file.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import Request
from pydantic import Field
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.llamacpp.errors import LLAMA_ERRORS
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import BadRequest
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.adapters import AdapterKind

_LORA = AdapterKind.LORA
_ModelName = Annotated[str, Field(max_length=256)] | None


class AdapterScale(msgspec.Struct):
    id: int
    scale: float


class AdapterRecord(msgspec.Struct):
    id: int
    path: str  # its name: which file it is, is nobody's business
    scale: float  # on requests that name none
    default_scale: float  # on those that name it without one
    task_name: str = ""
    prompt_prefix: str = ""


class Succeeded(msgspec.Struct):
    success: bool


def adapter_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp", error_shape=LLAMA_ERRORS)

    @router.get(
        "/lora-adapters", response_class=Response, responses=router.returns(list[AdapterRecord])
    )
    async def lora_adapters(caller: RequestCaller, model: _ModelName = None) -> Response:
        """A model's LoRA adapters, by the numbers that requests may have for them."""
        adapters = gateway.models_of(caller).resolve(model).adapters
        return RecordResponse(
            [
                AdapterRecord(
                    id=number,
                    path=adapter.name,
                    scale=adapters.usual_scale(adapter.name),
                    default_scale=adapter.scale,
                )
                for number, adapter in enumerate(adapters.of_kind(_LORA))
            ]
        )

    @router.post("/lora-adapters", response_class=Response, responses=router.returns(Succeeded))
    async def set_lora_adapters(
        request: Request, caller: RequestCaller, model: _ModelName = None
    ) -> Response:
        """Sets how strongly a model's adapters act on requests that name none, of all
        callers; those that are left out do not.

        Refused for keys that may use some models only.
        """
        if caller.limits.models is not None:
            raise BadRequest(
                "This API key may use some models only, and change none. Name the adapters in each "
                "request ('lora')."
            )
        adapters = gateway.models_of(caller).resolve(model).adapters
        try:
            scales = msgspec.json.decode(await request.body(), type=list[AdapterScale])
        except (ValueError, RecursionError) as error:
            raise BadRequest(
                f"The body must be a list of objects with 'id' and 'scale': {error}."
            ) from error
        adapters.set_usual(_LORA, [(each.id, each.scale) for each in scales])
        return RecordResponse(Succeeded(success=True))

    return router
