"""Looks at the machine's heat every second, and tells all workers how much they may use.

Knows no HTTP and no rule: what follows is the `Governor`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from appliance.errors import BadSettings
from appliance.fit.machine.cpus import read_cpus
from appliance.fit.machine.thermal import Thermal, read_thermal
from appliance.gateway.router import Router
from appliance.gateway.telemetry.metrics import Metrics
from appliance.gateway.thermal.governor import Governed, Governor, Mode
from appliance.gateway.thermal.heat import ROOT, GovernedHeat
from appliance.gateway.thermal.trial import Work
from appliance.protocol.health import Heartbeat
from appliance.protocol.relief import Pace

_log = logging.getLogger(__name__)
_INTERVAL_S = 1.0


def read_machine() -> Thermal | None:
    """This machine, with what its CPUs count."""
    return read_thermal(ROOT, read_cpus(ROOT).usable)


class ThermalWatch:
    """Does nothing where the mode is off, or the kernel tells nothing of heat.

    `read` is called in a thread: a sensor takes its time. `clock` is in seconds.
    """

    def __init__(
        self,
        router: Router,
        metrics: Metrics,
        *,
        mode: Mode,
        read: Callable[[], Thermal | None] = read_machine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `BadSettings` where the mode is on and nothing tells of heat."""
        self._router = router
        self._metrics = metrics
        self._read = read
        self._clock = clock
        self._governor = Governor(mode)
        self._is_of_use = mode is not Mode.OFF and _tells(read())
        self._seen: dict[str, Heartbeat] = {}
        self._last: Governed | None = None
        if mode is Mode.ON and not self._is_of_use:
            raise BadSettings(
                "--thermal on: this system tells neither a temperature limit nor whether its "
                "firmware slows it down ('appliance doctor' says what it tells). Leave --thermal "
                "at auto, or say off."
            )

    async def run(self) -> None:
        """Until it is cancelled; what goes wrong in one look is logged."""
        while self._is_of_use:
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - whatever it is, requests are served and the next look may do
                _log.exception("heat could not be looked at")
            await asyncio.sleep(_INTERVAL_S)

    async def look(self) -> None:
        """Once."""
        thermal = await asyncio.to_thread(self._read)
        if thermal is None:
            self._release()
            return
        governed = self._governor.observe(self._clock(), thermal, self._work())
        self._tell(governed)
        self._metrics.heat = GovernedHeat(
            celsius=thermal.hottest_celsius,
            margin_celsius=governed.margin_celsius,
            throttles=governed.throttles,
            phase=governed.phase.value,
            share=governed.share,
        )

    def _work(self) -> Work:
        """What all workers did since the last look; one that is new did nothing yet."""
        busy_s = done_ms = 0.0
        seen = {}
        for model in self._router.distinct:
            beat = model.client.health().heartbeat
            if beat is None:
                continue
            before, seen[model.id] = self._seen.get(model.id), beat
            if before is not None and before.busy_s <= beat.busy_s:
                busy_s += beat.busy_s - before.busy_s
                done_ms += beat.done_ms - before.done_ms
        self._seen = seen
        return Work(busy_s=busy_s, done_ms=done_ms)

    def _release(self) -> None:
        """Sensors that are gone, with their driver or their device, hold nothing back: the
        firmware still does what it must.
        """
        if self._last is not None:
            self._tell(replace(self._last, share=1.0))
        self._metrics.heat = None

    def _tell(self, governed: Governed) -> None:
        """Again at every look, for a worker that is new does not know of it; but where all
        may be used, only once.
        """
        last, self._last = self._last, governed
        if last is None or last.phase is not governed.phase:
            _log.info("heat: the governor is %s", governed.phase.value)
        if governed.share < 1 or (last is not None and last.share < 1):
            for model in self._router.distinct:
                model.client.relieve(Pace(governed.share))


def _tells(thermal: Thermal | None) -> bool:
    if thermal is None:
        return False
    counts = thermal.throttle_count is not None and thermal.hottest_celsius is not None
    return thermal.state is not None or counts
