"""GET /v1/models and /v1/models/{id} for who sends the header `anthropic-version`.

Knows nothing of what the models can do; without that header the paths are OpenAI's.

Source: https://docs.claude.com/en/api/models-list
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

from fastapi import Query
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from appliance.api.anthropic.errors import (
    ANTHROPIC_ERRORS,
    REQUEST_ID_HEADER,
    VERSION_HEADER,
    current_request_id,
)
from appliance.api.anthropic.wire import AnthropicModel, AnthropicModelPage
from appliance.api.format_router import FormatRouter
from appliance.api.transport.body import StrictJsonRoute
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.model_status import model_status
from appliance.gateway.router import ServedModel

_MAX_MODELS = 1000  # on a page
_VERSION = VERSION_HEADER.encode()


class _VersionedRoute(StrictJsonRoute):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if all(name != _VERSION for name, _ in scope.get("headers", ())):
            return Match.NONE, {}
        return super().matches(scope)


def anthropic_model_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter(
        "anthropic",
        error_shape=ANTHROPIC_ERRORS,
        header=VERSION_HEADER,
        route_class=_VersionedRoute,
    )

    # OpenAPI has one description for a path: OpenAI's.
    @router.get("/v1/models", include_in_schema=False)
    async def list_models(
        caller: RequestCaller,
        limit: Annotated[int, Query(ge=1, le=_MAX_MODELS)] = _MAX_MODELS,
        after_id: str | None = None,
        before_id: str | None = None,
    ) -> Response:
        """The served models, loaded or not."""
        records = [_to_wire(model) for model in gateway.models_of(caller).listed]
        ids = [record.id for record in records]
        begin = ids.index(after_id) + 1 if after_id in ids else 0
        end = ids.index(before_id) if before_id in ids else len(ids)
        if before_id in ids:
            begin = max(begin, end - limit)
        page = records[begin:end][:limit]
        has_more = begin > 0 if before_id in ids else begin + len(page) < end
        return _response(
            AnthropicModelPage(
                data=page,
                has_more=has_more,
                first_id=page[0].id if page else None,
                last_id=page[-1].id if page else None,
            )
        )

    # a path, for ids such as org/model
    @router.get("/v1/models/{name:path}", include_in_schema=False)
    async def retrieve_model(name: str, caller: RequestCaller) -> Response:
        """One served model, by its id or an alias."""
        return _response(_to_wire(gateway.models_of(caller).resolve(name)))

    return router


def _response(record: AnthropicModelPage | AnthropicModel) -> Response:
    response = RecordResponse(record)
    response.headers[REQUEST_ID_HEADER] = current_request_id()
    return response


def _to_wire(model: ServedModel) -> AnthropicModel:
    created = datetime.fromtimestamp(model.created, timezone.utc)
    ctx = model_status(model).ctx
    return AnthropicModel(
        id=model.id,
        display_name=model.id,
        created_at=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        max_input_tokens=ctx,
        max_tokens=ctx,
    )
