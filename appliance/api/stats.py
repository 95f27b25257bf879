"""GET /stats: how requests went lately, for people and for pages. Knows no number by name.

Ours, not OpenAI's.
"""

from __future__ import annotations

from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.telemetry.stats import StatsRecord


def stats_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("stats")

    @router.get("/stats", response_class=Response, responses=router.returns(StatsRecord))
    async def stats(caller: RequestCaller) -> Response:
        """Percentiles, shares and rates of the last five minutes and of the last hour, for
        each model and each key; who is no administrator sees its own key's. Times are in
        seconds.
        """
        only = None if caller.is_admin else caller.id
        return RecordResponse(await gateway.metrics.stats.record(only))

    return router
