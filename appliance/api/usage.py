"""GET /usage: what was used, by whom, and what it cost. Knows no price.

Ours, not OpenAI's. Whose requests are looked at is decided here: a key's holder sees its
own, for what others ask is nobody's business; administrators see everything, as by
`appliance usage` on the machine, and so does everybody where no key is needed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import BadRequest, NotAllowed
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.usage.query import BY_HELP, DEFAULT_BY, SINCE_HELP, UsageQuery
from appliance.gateway.usage.report import UsageReport

_MAX = 1e9
_PARAMETERS = {"by", "since", "price_per_hour", "gco2_per_kwh"}


def usage_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("usage")

    @router.get("/usage", response_class=Response, responses=router.returns(UsageReport))
    async def usage(
        request: Request,
        caller: RequestCaller,
        by: Annotated[str, Query(description=BY_HELP, max_length=100)] = DEFAULT_BY,
        since: Annotated[str | None, Query(description=SINCE_HELP, max_length=100)] = None,
        price_per_hour: Annotated[float | None, Query(ge=0, le=_MAX)] = None,
        gco2_per_kwh: Annotated[float | None, Query(ge=0, le=_MAX)] = None,
    ) -> Response:
        """Requests, tokens, seconds that the machine computed, cost and energy, of the caller's
        own requests; for administrators, and without keys, of everybody's. Prices are the
        server's unless they are given.
        """
        for name in request.query_params.keys() - _PARAMETERS:
            # whoever asks for something else takes all of it for that
            raise BadRequest(
                f"Unknown parameter '{name[:100]}': /usage has {', '.join(sorted(_PARAMETERS))}.",
                param=name[:100],
            )
        if gateway.usage is None:
            raise NotAllowed("This server keeps no usage.")
        prices = gateway.usage.prices
        if price_per_hour is not None:
            prices = replace(prices, price_per_hour=price_per_hour)
        if gco2_per_kwh is not None:
            prices = replace(prices, gco2_per_kwh=gco2_per_kwh)
        key = None if caller.is_admin else caller.id
        query = UsageQuery.of(by, since, key=key, prices=prices, now=time.time)
        return RecordResponse(await gateway.usage.report(query))

    return router
