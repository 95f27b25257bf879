"""When the machine is kept below its limit, and by how much.

Knows no file, no worker and no clock: the time, what the kernel shows and what was
computed go in.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from appliance.fit.machine.thermal import Thermal
from appliance.gateway.thermal.controller import ShareController
from appliance.gateway.thermal.trial import Trial, Work

KEPT_S = 3600.0  # busy seconds for which a verdict holds; each that was no doubles the next
_MOST_KEPT_S = 24 * 3600.0
# Below that, what lowers a clock is a fan's curve, a power profile or a battery.
_LEAST_LEARNED_CELSIUS = 60.0
_NEAR_CELSIUS = 6.0  # of a limit that is shown: it is that one


class Mode(str, enum.Enum):
    """As `--thermal` has it."""

    AUTO = "auto"  # where it was measured to be better
    ON = "on"
    OFF = "off"


class Phase(str, enum.Enum):
    """What the governor is doing."""

    WATCHING = "watching"  # nothing is held back, until the machine is seen to throttle
    MEASURING = "measuring"  # whether holding back would be better
    GOVERNING = "governing"
    NOT_BETTER = "not better"  # it was measured: nothing is held back for a time


@dataclass(frozen=True, kw_only=True)
class Governed:
    """What follows from what was seen last."""

    phase: Phase
    share: float  # of the machine's power that may be used
    margin_celsius: float | None  # to where the machine slows down, as far as known
    throttles: bool


class Governor:
    """Begins by watching, or with `Mode.ON` by governing."""

    def __init__(self, mode: Mode = Mode.AUTO) -> None:
        self._mode = mode
        self.phase = Phase.GOVERNING if mode is Mode.ON else Phase.WATCHING
        self._controller = ShareController()
        self._trial = Trial()
        self._left_s = 0.0  # busy, of the verdict
        self._kept_s = KEPT_S  # of the next one against governing
        # Firmware that slows down below all limits that are shown says so, but not at
        # which temperature: it is the one at which it was last seen to begin.
        self._learned_celsius: float | None = None
        # When it was last looked at:
        self._num_throttled: int | None = None
        self._throttled = False
        self._celsius = 0.0

    def observe(self, now_s: float, thermal: Thermal, work: Work) -> Governed:
        """`work` is what was done since the last time, with what was returned then."""
        throttles = self._throttles(thermal)
        if throttles and not self._throttled:
            self._learn(thermal)
        self._throttled, self._celsius = throttles, thermal.hottest_celsius or 0.0
        margin = self._margin(thermal)
        if self._mode is Mode.AUTO:
            self._decide(work, throttles=throttles)
        is_held = self.phase is Phase.GOVERNING or (
            self.phase is Phase.MEASURING and self._trial.is_governed
        )
        share = 1.0
        if is_held and margin is not None:
            share = self._controller.step(now_s, margin)
        else:
            self._controller.pause()
        return Governed(
            phase=self.phase,
            share=share,
            margin_celsius=margin,
            throttles=throttles,
        )

    def _throttles(self, thermal: Thermal) -> bool:
        count, before = thermal.throttle_count, self._num_throttled
        self._num_throttled = count
        has_counted = count is not None and before is not None and count > before
        return thermal.is_by_heat or has_counted

    def _learn(self, thermal: Thermal) -> None:
        if thermal.hottest_celsius is None:
            return
        celsius = max(thermal.hottest_celsius, self._celsius)  # it may have cooled since
        shown = thermal.margin_celsius
        if shown is not None and shown - (celsius - thermal.hottest_celsius) < _NEAR_CELSIUS:
            return
        if celsius >= _LEAST_LEARNED_CELSIUS:
            self._learned_celsius = celsius

    def _margin(self, thermal: Thermal) -> float | None:
        margins = [] if thermal.margin_celsius is None else [thermal.margin_celsius]
        if self._learned_celsius is not None and thermal.hottest_celsius is not None:
            margins.append(self._learned_celsius - thermal.hottest_celsius)
        return min(margins, default=None)

    def _decide(self, work: Work, *, throttles: bool) -> None:
        if self.phase is Phase.WATCHING:
            if throttles and work.busy_s > 0:
                self.phase, self._trial = Phase.MEASURING, Trial()
        elif self.phase is Phase.MEASURING:
            verdict = self._trial.add(work, throttles=throttles)
            if verdict is not None:
                self._take(is_better=verdict)
        else:
            self._left_s -= work.busy_s
            if self._left_s <= 0:  # rooms get warmer, and fans dusty
                self.phase = Phase.WATCHING

    def _take(self, *, is_better: bool) -> None:
        if is_better:
            self.phase, self._left_s, self._kept_s = Phase.GOVERNING, KEPT_S, KEPT_S
        else:
            self.phase, self._left_s = Phase.NOT_BETTER, self._kept_s
            self._kept_s = min(2 * self._kept_s, _MOST_KEPT_S)
