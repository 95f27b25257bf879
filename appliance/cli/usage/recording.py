"""What a server counts usage with: where it is written, prices, and the machine's power.

Knows no request.
"""

from __future__ import annotations

import logging

from appliance.fit.machine.power import find_power_meter
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.power import FixedPower, MeteredPower, Power
from appliance.gateway.usage.report import Prices
from appliance.gateway.usage.rows import UsageFile
from appliance.settings import ServeSettings

_log = logging.getLogger(__name__)


def prices_of(settings: ServeSettings) -> Prices:
    return Prices(
        price_per_hour=settings.price_per_hour,
        watts=settings.watts,
        gco2_per_kwh=settings.gco2_per_kwh,
    )


def usage_log(settings: ServeSettings) -> UsageLog:
    """Raises `BadDatabase` where a newer program has written the file."""
    rows = UsageFile.in_folder(settings.state_dir)
    return UsageLog(rows, prices=prices_of(settings), power=_power(settings.watts))


async def read_power(gateway: Gateway) -> None:
    """Until it is cancelled."""
    if gateway.usage is not None:
        await gateway.usage.power.run()


def _power(watts: float | None) -> Power:
    meter = find_power_meter() if watts is None else None
    if meter is None:
        return FixedPower(watts)
    _log.info("power is read from %s", meter.source)
    return MeteredPower(meter)
