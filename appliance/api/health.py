"""GET /health: answered by this process from what it knows,
never by waiting for a model.

Knows no wire format.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Request
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from appliance.api.door.keys import caller_with
from appliance.api.format_router import FormatRouter
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import RateLimited, Unauthorized
from appliance.gateway.lifecycle import Gateway


class Health(msgspec.Struct, kw_only=True):
    """Callers without a key, or with one for some models, see only the status."""

    status: str
    reason: str | UnsetType | None = UNSET
    num_requests: int | UnsetType = UNSET
    models: list[dict[str, Any]] | UnsetType = UNSET


def health_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("health")

    described = router.returns(Health)
    why = "Not ready: `status` and `reason` say why."
    described[503] = {**described[200], "description": why}

    @router.get("/health", responses=described)
    async def health(request: Request) -> Response:
        """200 if requests would be served, else 503.

        Requires no key, but only callers who may use all models see more than the status.
        """
        snapshot = gateway.health()
        status = 200 if snapshot["status"] == "ok" else 503
        is_trusted = await _is_trusted(request)
        shown = Health(**snapshot) if is_trusted else Health(status=snapshot["status"])
        return RecordResponse(shown, status)

    async def _is_trusted(request: Request) -> bool:
        try:
            caller = await caller_with(request.headers, gateway.admission)
        except (RateLimited, Unauthorized):
            return False
        return caller.limits.models is None

    return router
