"""A machine that gets warm when it computes, and slows down when it is too warm.

Knows nothing of the appliance but the files that Linux would show. A die that warms in
seconds on a heat sink that takes minutes: two resistances and two capacities, as in any
text on electronics cooling. What it takes is dynamic power, which grows with the clock,
and with its cube where the voltage follows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.gateway.thermal.trial import Work
from tests.fit.machines import write_machine

ROOM = 25.0  # degrees Celsius
CORES = 4
_IDLE_W, _MOST_W = 1.0, 15.0
_DIE_J_PER_K, _SINK_J_PER_K = 2.0, 20.0
_TO_SINK_K_PER_W, _TO_ROOM_K_PER_W = 1.0, 4.0
_TICK_S = 0.1
_ZONE, _COOLING = "sys/class/thermal/thermal_zone0", "sys/class/thermal/cooling_device0"

Firmware = Callable[[float, float], float]  # temperature and clock to the next clock


def falls(celsius: float, clock: float) -> float:
    """To its slowest clock at 80 degrees, and back at 72."""
    if celsius >= 80:
        return 0.4
    return 1.0 if celsius <= 72 else clock


def steps_down(celsius: float, clock: float) -> float:
    """A little at a time, as Linux' step-wise governor does."""
    return max(clock - 0.01, 0.3) if celsius >= 80 else min(clock + 0.01, 1.0)


@dataclass(kw_only=True)
class SimulatedMachine:
    """`pass_s` computes for a second; `root` has the files."""

    root: Path
    firmware: Firmware = falls
    power_exponent: float = 1.0  # of the clock; 3 where the voltage follows it
    # Cores' worth of computing that the memory keeps fed.
    useful_cores: float = CORES
    changes_threads: bool = False  # else only the time of computing follows the share
    is_busy: bool = True
    shows_limit: bool = True

    def __post_init__(self) -> None:
        self.now_s = 0.0
        self.die = self.sink = ROOM
        self.clock = 1.0
        self.speeds: list[float] = []  # of each second, 1 being the coolest machine's
        self.hottest = ROOM
        files = {f"{_ZONE}/type": "cpu-thermal", f"{_COOLING}/type": "thermal-cpufreq-0"}
        if self.shows_limit:
            files |= {f"{_ZONE}/trip_point_0_type": "passive"}
            files |= {f"{_ZONE}/trip_point_0_temp": "80000"}
        write_machine(self.root, files)
        self._write()

    def _write(self) -> None:
        (self.root / _ZONE / "temp").write_text(f"{self.die * 1000:.0f}\n")
        (self.root / _COOLING / "cur_state").write_text(f"{int(self.clock < 1)}\n")

    def pass_s(self, share: float) -> Work:
        """A second at this share of the machine's power."""
        threads = math.ceil(share * CORES) if self.changes_threads else CORES
        duty = share * CORES / threads
        done = 0.0
        for _ in range(round(1 / _TICK_S)):
            done += self._tick(threads, duty if self.is_busy else 0.0)
        self.now_s += 1
        self._write()
        self.speeds.append(done)
        return Work(busy_s=1.0 if self.is_busy else 0.0, done_ms=done * 1000)

    def _tick(self, threads: int, duty: float) -> float:
        self.clock = self.firmware(self.die, self.clock)
        dynamic_w = (_MOST_W - _IDLE_W) * threads / CORES * duty
        watts = _IDLE_W + dynamic_w * self.clock**self.power_exponent
        to_sink = (self.die - self.sink) / _TO_SINK_K_PER_W
        to_room = (self.sink - ROOM) / _TO_ROOM_K_PER_W
        self.die += (watts - to_sink) / _DIE_J_PER_K * _TICK_S
        self.sink += (to_sink - to_room) / _SINK_J_PER_K * _TICK_S
        self.hottest = max(self.hottest, self.die)
        useful = min(threads * self.clock, self.useful_cores) / self.useful_cores
        return useful * duty * _TICK_S
