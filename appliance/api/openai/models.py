"""GET /v1/models and /v1/models/{id}. Knows nothing of what the models can do.

Source: https://platform.openai.com/docs/api-reference/models
"""

from __future__ import annotations

from dataclasses import asdict

from msgspec import UNSET
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.openai.wire import ModelList, ModelRecord, ReplicaRecord
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.model_status import model_status
from appliance.gateway.router import ServedModel, Tiers


def model_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")

    @router.get("/v1/models", responses=router.returns(ModelList))
    async def list_models(caller: RequestCaller) -> Response:
        """The served models, loaded or not."""
        models = gateway.models_of(caller).listed
        named = [each for model in models for each in _with_adapters(model)]
        return RecordResponse(ModelList(data=[_to_wire(model) for model in named]))

    # a path, for ids such as org/model
    @router.get("/v1/models/{name:path}", responses=router.returns(ModelRecord))
    async def retrieve_model(name: str, caller: RequestCaller) -> Response:
        """One served model, by its id or an alias."""
        return RecordResponse(_to_wire(gateway.models_of(caller).resolve(name)))

    return router


def _with_adapters(model: ServedModel) -> list[ServedModel]:
    """A model, and behind it the same with each of its adapters."""
    return [model, *(model.with_adapter(adapter.name) for adapter in model.adapters.all)]


def _to_wire(model: ServedModel) -> ModelRecord:
    if model.tiers is not None:
        return _auto_to_wire(model, model.tiers)
    status = model_status(model)
    return ModelRecord(
        id=model.id,
        created=model.created,
        aliases=[] if model.adapter else list(status.aliases),
        parent=model.base_id if model.adapter else UNSET,
        state=status.state,
        loaded=status.is_loaded,
        last_error=status.last_error,
        quantization=status.quantization,
        ctx=status.ctx,
        slots=status.slots,
        predicted_bytes=status.predicted_bytes,
        reduced=status.is_reduced,
        replicas=UNSET
        if model.replicas is None
        else [ReplicaRecord(**asdict(each)) for each in model.replicas()],
    )


def _auto_to_wire(model: ServedModel, tiers: Tiers) -> ModelRecord:
    """Of the model `auto`, which is whichever of these a request needs."""
    statuses = [model_status(each) for each in tiers.usable]
    loaded = [status for status in statuses if status.is_loaded]
    return ModelRecord(
        id=model.id,
        created=model.created,
        aliases=[],
        tiers=[status.id for status in statuses],
        state=(loaded or statuses)[0].state,
        loaded=bool(loaded),
        last_error=None,
        quantization=None,
        ctx=max((status.ctx for status in loaded if status.ctx is not None), default=None),
        slots=None,
        predicted_bytes=None,
        reduced=False,
    )
