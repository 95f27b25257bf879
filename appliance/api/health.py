"""GET /health: answered by this process from what it knows, never by waiting for a model. Knows no wire format."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from appliance.errors import Unauthorized
from appliance.gateway.lifecycle import Gateway


def health_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", responses={503: {"description": "Not ready; `status` and `reason` say why."}})
    async def health(request: Request) -> Response:
        """200 when requests are answered, else 503. Needs no key; callers without one see the status alone."""
        snapshot = gateway.health()
        status = 200 if snapshot["status"] == "ok" else 503
        if not _is_trusted(request):
            snapshot = {"status": snapshot["status"]}
        return JSONResponse(snapshot, status_code=status)

    def _is_trusted(request: Request) -> bool:
        try:
            gateway.admission.authorize(request.headers.get("authorization"))
        except Unauthorized:
            return False
        return True

    return router
