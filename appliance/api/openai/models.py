"""GET /v1/models and /v1/models/{id}. Knows nothing of what the models can do.

Source: https://platform.openai.com/docs/api-reference/models
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.api.openai.wire import Model, ModelList, encode
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.model_status import model_status
from appliance.gateway.router import ServedModel


def model_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"])

    @router.get("/v1/models", responses=RESPONSES | answers(ModelList))
    async def list_models() -> Response:
        """The served models, loaded or not."""
        return _json(ModelList(data=[_to_wire(model) for model in gateway.router.models]))

    # a path, for ids such as org/model
    @router.get("/v1/models/{name:path}", responses=RESPONSES | answers(Model))
    async def retrieve_model(name: str) -> Response:
        """One served model, by its id or an alias."""
        return _json(_to_wire(gateway.router.resolve(name)))

    return router


def _to_wire(model: ServedModel) -> Model:
    status = model_status(model)
    return Model(
        id=model.id,
        created=model.created,
        aliases=list(status.aliases),
        state=status.state,
        loaded=status.is_loaded,
        last_error=status.last_error,
        quantization=status.quantization,
        ctx=status.ctx,
        slots=status.slots,
        predicted_bytes=status.predicted_bytes,
        reduced=status.is_reduced,
    )


def _json(record: msgspec.Struct) -> Response:
    return Response(encode(record), media_type="application/json")
