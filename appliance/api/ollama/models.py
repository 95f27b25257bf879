"""What there is and what is loaded: /api/tags, /api/show, /api/ps, /api/version,
/api/status.

Knows no file: the library says what is known of a model.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import json
import math
import time
from typing import Annotated

from msgspec import UNSET
from pydantic import AliasChoices, Field
from starlette.responses import Response

from appliance.api.fields.neutral import Hint
from appliance.api.fields.request import RequestModel
from appliance.api.format_router import FormatRouter
from appliance.api.ollama.errors import OLLAMA_ERRORS
from appliance.api.ollama.names import ModelName, listed_name, resolve
from appliance.api.ollama.times import rfc3339
from appliance.api.ollama.wire import (
    CloudRecord,
    Details,
    ListedModel,
    OllamaModelList,
    RunningModel,
    RunningModels,
    ShownModel,
    StatusRecord,
    VersionRecord,
)
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.library.facts import MetadataValue, ModelFacts
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.model_status import ModelStatus, model_status
from appliance.gateway.router import ServedModel

# Clients ask for it to know what they may send, and take it apart at its dots: it is that
# of the Ollama whose requests are understood here.
_OLLAMA_VERSION = "0.13.0"
_FOREVER_S = 100 * 365 * 86_400  # Ollama's way to say that a model stays
# By what of it a chat template shows that its model thinks before it answers.
_SIGNS_OF_THINKING = ("<think>", "enable_thinking", "reasoning_content", "reasoning_effort")


class ShowRequest(RequestModel):
    model: Annotated[ModelName | None, Field(validation_alias=AliasChoices("model", "name"))] = None
    verbose: bool | None = None
    system: Hint = None
    template: Hint = None
    options: Hint = None


def list_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("ollama", error_shape=OLLAMA_ERRORS)

    @router.get("/api/version", responses=router.returns(VersionRecord))
    async def show_version() -> Response:
        """The version of Ollama whose requests are understood."""
        return RecordResponse(VersionRecord(_OLLAMA_VERSION))

    @router.get("/api/status", responses=router.returns(StatusRecord))
    async def show_status() -> Response:
        """Says that no model runs elsewhere than here, which Ollama calls its cloud."""
        return RecordResponse(StatusRecord(CloudRecord(disabled=True, source="config")))

    @router.get("/api/tags", responses=router.returns(OllamaModelList))
    async def list_models(caller: RequestCaller) -> Response:
        """The models, loaded or not."""
        listed = []
        for model in gateway.models_of(caller).models:
            facts = await gateway.library.facts(model.id)
            listed.append(_listed(model, facts))
        return RecordResponse(OllamaModelList(models=listed))

    @router.get("/api/ps", responses=router.returns(RunningModels))
    async def list_running(caller: RequestCaller) -> Response:
        """The models that are loaded. `expires_at` is when one that nobody uses goes."""
        running = []
        for model in gateway.models_of(caller).models:
            status = model_status(model)
            if not status.is_loaded:
                continue
            facts = await gateway.library.facts(model.id)
            running.append(_running(model, facts, status))
        return RecordResponse(RunningModels(models=running))

    @router.post("/api/show", responses=router.returns(ShownModel))
    async def show(request: ShowRequest, caller: RequestCaller) -> Response:
        """A model's template, parameters, metadata and capabilities. Loads nothing."""
        model = resolve(gateway.models_of(caller), request.model)
        facts = await gateway.library.facts(model.id)
        return RecordResponse(_shown(model, facts))

    return router


def _listed(model: ServedModel, facts: ModelFacts) -> ListedModel:
    name = listed_name(model.id)
    return ListedModel(
        name=name,
        model=name,
        modified_at=rfc3339(facts.modified_s or model.created),
        size=facts.num_bytes,
        digest=facts.digest,
        details=_details(model, facts),
        capabilities=capabilities(model, facts),
    )


def _running(model: ServedModel, facts: ModelFacts, status: ModelStatus) -> RunningModel:
    name, info = listed_name(model.id), model.client.info
    # one that is being used stays as long again once it is not
    left_s = _FOREVER_S if status.unload_in_s is None else status.unload_in_s
    return RunningModel(
        name=name,
        model=name,
        size=status.predicted_bytes or facts.num_bytes,
        digest=facts.digest,
        details=_details(model, facts),
        expires_at=rfc3339(time.time() + left_s),
        size_vram=0 if info is None else sum(info.gpu_bytes.values()),
        context_length=status.ctx or 0,
    )


def _details(model: ServedModel, facts: ModelFacts) -> Details:
    info = model.client.info
    num_params = facts.num_params or (0 if info is None else info.num_params)
    return Details(
        parent_model=model.defaults.parent,
        family=facts.architecture,
        families=[facts.architecture] if facts.architecture else [],
        parameter_size=parameter_size(num_params),
        quantization_level=facts.quantization if info is None else _short(info.quantization),
    )


def _short(quantization: str) -> str:
    """llama.cpp's own words, `Q4_K - Medium`, as files are called: `Q4_K_M`."""
    kind, _, size = quantization.partition(" - ")
    return f"{kind}_{size[0]}" if size else kind


def parameter_size(num_params: int) -> str:
    """`135M`, `3.2B`; empty for none."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if num_params >= size:
            value = num_params / size
            digits = 1 if value < 10 or unit == "B" else 0
            return f"{value:.{digits}f}{unit}"
    return str(num_params) if num_params else ""


def _shown(model: ServedModel, facts: ModelFacts) -> ShownModel:
    defaults = model.defaults
    parameters = _parameter_lines(model)
    return ShownModel(
        modelfile=_modelfile(model, facts, parameters),
        parameters="\n".join(parameters) or UNSET,
        template=facts.chat_template,
        system=defaults.system or UNSET,
        license=facts.licence or UNSET,
        details=_details(model, facts),
        messages=[{**message} for message in defaults.messages] or UNSET,
        model_info=_model_info(model, facts),
        capabilities=capabilities(model, facts),
        modified_at=rfc3339(facts.modified_s or model.created),
    )


def capabilities(model: ServedModel, facts: ModelFacts) -> list[str]:
    """By Ollama's names. What is only known once a model is loaded is taken from its
    template.
    """
    info = model.client.info
    if facts.embeds or (info is not None and info.pooling):
        return ["embedding"]
    found = ["completion"]
    has_tools = bool(facts.chat_template) if info is None else info.tool_use != "none"
    if has_tools:
        found.append("tools")
    if facts.fills_gaps:
        found.append("insert")
    if any(sign in facts.chat_template for sign in _SIGNS_OF_THINKING):
        found.append("thinking")
    return found


def _model_info(model: ServedModel, facts: ModelFacts) -> dict[str, MetadataValue]:
    """The context is the one that is served, where that is known: a client that counts
    on more than that would be refused.
    """
    found = dict(facts.metadata)
    if facts.architecture:
        found["general.parameter_count"] = facts.num_params
    info = model.client.info
    if info is not None and facts.architecture:
        key = f"{facts.architecture}.context_length"
        found[key] = min(info.ctx, facts.train_ctx or info.ctx)
    return found


def _parameter_lines(model: ServedModel) -> list[str]:
    info = model.client.info
    lines = [] if info is None else [f"num_ctx {info.ctx}"]
    for name, value in model.defaults.parameters.items():
        if name == "num_ctx" and info is not None:
            continue  # what is served counts
        each = value if isinstance(value, list) else [value]
        lines += [f"{name} {_written(one)}" for one in each]
    return [f"{name:<30} {value}" for name, _, value in (line.partition(" ") for line in lines)]


def _written(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _modelfile(model: ServedModel, facts: ModelFacts, parameters: list[str]) -> str:
    lines = [f"FROM {model.defaults.parent or model.id}"]
    if facts.chat_template:
        lines.append(f'TEMPLATE """{facts.chat_template}"""')
    if model.defaults.system:
        lines.append(f'SYSTEM """{model.defaults.system}"""')
    lines += [f"PARAMETER {line}" for line in parameters]
    return "\n".join(lines) + "\n"
