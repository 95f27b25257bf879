"""GET /metrics: what Prometheus scrapes. Knows no metric by name."""

from __future__ import annotations

from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.telemetry.metrics import MEDIA_TYPE


def metrics_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("metrics")

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:  # in a thread it would read what changes on the event loop
        """Counters and gauges in Prometheus' text format.

        Requires an administrator's key if the server has any.
        """
        return Response(gateway.metrics.render(), media_type=MEDIA_TYPE)

    return router
