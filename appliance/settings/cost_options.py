"""What computing costs, as far as no machine can tell. Knows no source and no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from appliance.settings import options as opt
from appliance.settings.options import Option

COSTS = "Costs"


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """Part of `ServeSettings`."""

    price_per_hour: Annotated[
        float | None,
        Option(
            help="What an hour of this machine costs, in any currency, for the costs in usage: "
            "those of the seconds that each request's tokens took",
            parser=opt.amount("0.05"),
            group=COSTS,
            metavar="PRICE",
            automatic="no costs are computed",
        ),
    ] = None
    watts: Annotated[
        float | None,
        Option(
            help="Power that this machine takes while it computes, where it cannot be read "
            "(RAPL, INA3221, hwmon)",
            parser=opt.amount("35"),
            group=COSTS,
            metavar="WATTS",
            automatic="what the machine's own meters show, if there are any",
        ),
    ] = None
    gco2_per_kwh: Annotated[
        float | None,
        Option(
            help="Grams of CO2 equivalents that a kilowatt-hour brings about where this machine "
            "is, for the emissions in usage",
            parser=opt.amount("380"),
            group=COSTS,
            metavar="GRAMS",
            automatic="no emissions are computed",
        ),
    ] = None
