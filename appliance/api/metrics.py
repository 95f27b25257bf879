"""GET /metrics: what Prometheus scrapes. Knows no metric by name."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from appliance.api.errors import RESPONSES
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.metrics import MEDIA_TYPE


def metrics_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["metrics"], responses=RESPONSES)

    @router.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Counters and gauges in Prometheus' text format. Needs a key where the server has any."""
        return Response(gateway.metrics.render(), media_type=MEDIA_TYPE)

    return router
