"""How much power the machine took lately: read every second, or as somebody said.

Knows no request and no file.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from appliance.fit.machine.power import PowerMeter

_INTERVAL_S = 1.0
_NUM_READINGS = 10  # that are averaged: a request's steps were some of these seconds


class FixedPower:
    """The machine is said to take so much while it computes; None: nobody knows."""

    def __init__(self, watts: float | None) -> None:
        self.watts = watts

    async def run(self) -> None:
        """Nothing is to be read."""


class MeteredPower:
    """The mean of the last readings."""

    def __init__(self, meter: PowerMeter, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds."""
        self._meter = meter
        self._clock = clock
        self._readings: deque[float] = deque(maxlen=_NUM_READINGS)

    @property
    def watts(self) -> float | None:
        """None until something was read."""
        return sum(self._readings) / len(self._readings) if self._readings else None

    def read(self) -> None:
        """Once. What cannot be read is left out; where that is so for long, so is the power."""
        watts = self._meter.watts(self._clock())
        if watts is not None:
            self._readings.append(watts)
        elif self._readings:
            self._readings.popleft()

    async def run(self) -> None:
        """Until it is cancelled; reads in a thread, for drivers may take their time."""
        while True:
            await asyncio.to_thread(self.read)
            await asyncio.sleep(_INTERVAL_S)


Power = FixedPower | MeteredPower
