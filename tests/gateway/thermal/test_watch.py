"""The watch between a machine and its workers: what they are told, and what is shown."""

from __future__ import annotations

import pytest

from appliance.errors import BadSettings
from appliance.fit.machine.thermal import Thermal, ThermalState
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.telemetry.metrics import Metrics
from appliance.gateway.thermal.governor import Mode
from appliance.gateway.thermal.watch import ThermalWatch
from appliance.protocol.relief import Pace, Relief
from tests.gateway.paced_client import PacedClient
from tests.gateway.samples import values


class Worker(PacedClient):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Relief | Pace] = []

    def relieve(self, relief: Relief | Pace) -> None:
        self.told.append(relief)


class Machine:
    """As hot as the test says, a second later at each look."""

    def __init__(self, mode: Mode) -> None:
        self.margin: float = 30.0
        self.is_gone = False
        self.now_s = 0.0
        self.worker = Worker()
        self.metrics = Metrics()
        self.metrics.watch(list)
        self.watch = ThermalWatch(
            Router([ServedModel(id="novels", client=self.worker, created=0)]),
            self.metrics,
            mode=mode,
            read=self.read,
            clock=lambda: self.now_s,
        )

    def read(self) -> Thermal | None:
        if self.is_gone:
            return None
        return Thermal(
            state=ThermalState.NORMAL,
            reason="a test",
            hottest_celsius=90 - self.margin,
            margin_celsius=self.margin,
            is_by_heat=self.margin <= 0,
        )

    async def look(self, margin: float) -> None:
        self.margin = margin
        self.now_s += 1
        await self.watch.look()


async def test_workers_are_told_while_they_are_held_back_and_once_more() -> None:
    machine = Machine(Mode.ON)
    for margin in (30.0, 30.0, -2.0, 30.0, 30.0, 30.0):
        await machine.look(margin)

    # 32 degrees warmer, and 5 off the target for a second; then back again
    assert machine.worker.told == [Pace(0.25), Pace(1.0)]


async def test_sensors_that_are_gone_hold_nothing_back() -> None:
    machine = Machine(Mode.ON)
    for margin in (30.0, -2.0):
        await machine.look(margin)
    for is_gone in (True, True, False):
        machine.is_gone = is_gone
        await machine.look(-2.0)
        assert (machine.metrics.heat is None) == is_gone
    assert machine.worker.told == [Pace(0.25), Pace(1.0), Pace(0.25)]


async def test_what_is_seen_is_shown() -> None:
    machine = Machine(Mode.ON)
    await machine.look(10.0)
    await machine.look(1.0)

    shown = {
        name: values(machine.metrics, f"appliance_heat_{name}")[""]
        for name in ("celsius", "margin_celsius", "throttling", "share_ratio")
    }
    assert shown == {
        "celsius": 89.0,
        "margin_celsius": 1.0,
        "throttling": 0.0,
        "share_ratio": pytest.approx(1 - 9 * 0.06 - 2 * 0.006),
    }


async def test_off_and_without_anything_to_go_by_nothing_is_looked_at() -> None:
    machine = Machine(Mode.OFF)
    await machine.watch.run()  # ends at once
    assert machine.metrics.heat is None

    router = Router([ServedModel(id="novels", client=Worker(), created=0)])
    await ThermalWatch(router, Metrics(), mode=Mode.AUTO, read=lambda: None).run()


def test_on_without_anything_to_go_by_is_refused() -> None:
    router = Router([ServedModel(id="novels", client=Worker(), created=0)])
    with pytest.raises(BadSettings, match="--thermal on: this system tells neither"):
        ThermalWatch(router, Metrics(), mode=Mode.ON, read=lambda: None)
