"""GET /catalog and /catalog/plan: what could be fetched, and what fits, before it is.

Knows no hub and no rule of what fits. Ours, not OpenAI's: the page asks it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.gateway.library.offers import Catalog, PullPlan
from appliance.gateway.lifecycle import Gateway

_MODEL_HELP = "a name of the catalog, org/repo or org/repo:QUANT"


def catalog_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("catalog")

    @router.get("/catalog", response_class=Response, responses=router.returns(Catalog))
    async def catalog(caller: RequestCaller) -> Response:
        """The models known by name: which fit the memory that is free now, in which
        quantization, and how fast they could be. An estimate: no hub is asked.
        """
        return RecordResponse(await gateway.library_of(caller).catalog())

    @router.get("/catalog/plan", response_class=Response, responses=router.returns(PullPlan))
    async def plan(
        caller: RequestCaller,
        model: Annotated[str, Query(description=_MODEL_HELP, min_length=1, max_length=300)],
    ) -> Response:
        """What pulling a model would fetch, how much that is, what it takes, and why: its hub is
        asked for sizes and headers, which takes seconds. For who may pull models.
        """
        return RecordResponse(await gateway.library_of(caller).plan_pull(model))

    return router
