"""GET /health: answered by this process from what it knows, never by waiting for a model.

Knows no wire format.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from appliance.api.description import answers
from appliance.errors import Unauthorized
from appliance.gateway.lifecycle import Gateway


class Health(msgspec.Struct, kw_only=True):
    """Callers without a key see the status alone."""

    status: str
    reason: str | UnsetType | None = UNSET
    num_requests: int | UnsetType = UNSET
    models: list[dict[str, Any]] | UnsetType = UNSET


def health_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["health"])

    described = answers(Health)
    described[503] = {**described[200], "description": "Not ready; `status` and `reason` say why."}

    @router.get("/health", responses=described)
    async def health(request: Request) -> Response:
        """200 when requests are answered, else 503.

        Needs no key; callers without one see the status alone.
        """
        snapshot = gateway.health()
        status = 200 if snapshot["status"] == "ok" else 503
        told = Health(**snapshot) if _is_trusted(request) else Health(status=snapshot["status"])
        return Response(msgspec.json.encode(told), status, media_type="application/json")

    def _is_trusted(request: Request) -> bool:
        try:
            gateway.admission.authorize(request.headers.get("authorization"))
        except Unauthorized:
            return False
        return True

    return router
