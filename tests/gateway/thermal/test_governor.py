"""On simulated machines: what keeping below the limit brings, and that it is done only
where it brings something.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from appliance.fit.machine.thermal import Thermal, read_thermal
from appliance.gateway.thermal.controller import LEAST_SHARE
from appliance.gateway.thermal.governor import KEPT_S, Governed, Governor, Mode, Phase
from appliance.gateway.thermal.trial import ROUNDS, SETTLE_S, WINDOW_S, WINDOWS, Work
from tests.gateway.thermal.simulated_machine import SimulatedMachine, falls, steps_down

HOT_S = 180  # by then every machine here was at its limit
TRIAL_S = round(ROUNDS * (SETTLE_S + WINDOWS * WINDOW_S))
# Memory feeds fewer cores than there are; threads follow the share.
MEMORY_BOUND: dict[str, Any] = {"useful_cores": 2.6, "changes_threads": True}


def run(machine: SimulatedMachine, governor: Governor, num_s: int) -> list[Governed]:
    seen: list[Governed] = []
    for _ in range(num_s):
        work = machine.pass_s(seen[-1].share if seen else 1.0)
        thermal = read_thermal(machine.root, ())
        assert thermal is not None
        seen.append(governor.observe(machine.now_s, thermal, work))
    return seen


def phases(seen: list[Governed]) -> list[Phase]:
    return [phase for phase, _ in groupby(one.phase for one in seen)]


def speeds(machine: SimulatedMachine, last_s: int) -> tuple[float, float]:
    """(mean, slowest second), 1 being a cool machine's."""
    late = machine.speeds[-last_s:]
    return round(mean(late), 2), round(min(late), 2)


@pytest.mark.parametrize(
    ("kind", "into_the_wall", "governed"),
    [
        ({"firmware": falls}, (0.65, 0.4), (0.67, 0.67)),
        ({"firmware": falls, **MEMORY_BOUND}, (0.77, 0.62), (0.9, 0.9)),
    ],
)
def test_governed_is_steadier_and_no_slower_than_running_into_the_wall(
    tmp_path: Path,
    kind: dict[str, Any],
    into_the_wall: tuple[float, float],
    governed: tuple[float, float],
) -> None:
    wall = SimulatedMachine(root=tmp_path / "wall", **kind)
    for _ in range(600):
        wall.pass_s(1.0)
    machine = SimulatedMachine(root=tmp_path / "governed", **kind)
    run(machine, Governor(Mode.ON), 600)

    assert speeds(wall, 300) == into_the_wall
    assert speeds(machine, 300) == governed
    assert round(wall.hottest, 1) == 80.0
    assert round(machine.hottest, 1) == 78.0, "it never came to its limit"


@pytest.mark.parametrize(
    "kind", [{"firmware": falls}, {"firmware": falls, **MEMORY_BOUND, "power_exponent": 3}]
)
def test_auto_governs_where_that_was_measured_to_be_better(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    machine = SimulatedMachine(root=tmp_path, **kind)

    seen = run(machine, Governor(), HOT_S + TRIAL_S)

    assert phases(seen) == [Phase.WATCHING, Phase.MEASURING, Phase.GOVERNING]
    assert seen[-1].share < 1


@pytest.mark.parametrize("more", [{}, MEMORY_BOUND])
def test_auto_lets_a_machine_alone_that_slows_down_gently(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    """A slower clock needs less voltage: that costs less than pauses would."""
    machine = SimulatedMachine(root=tmp_path, firmware=steps_down, power_exponent=3, **more)

    seen = run(machine, Governor(), HOT_S + TRIAL_S)

    assert phases(seen) == [Phase.WATCHING, Phase.MEASURING, Phase.NOT_BETTER]
    assert seen[-1].share == 1


def test_a_limit_that_is_not_shown_is_learned(tmp_path: Path) -> None:
    """A Raspberry Pi's firmware slows down far below what its zone shows."""
    machine = SimulatedMachine(root=tmp_path, shows_limit=False, **MEMORY_BOUND)

    seen = run(machine, Governor(Mode.ON), 600)

    assert seen[0].margin_celsius is None
    assert not any(one.throttles for one in seen[HOT_S:])
    assert speeds(machine, 300) == (0.89, 0.89)


def test_what_stays_cool_is_never_held_back(tmp_path: Path) -> None:
    machine = SimulatedMachine(root=tmp_path, is_busy=False)

    seen = run(machine, Governor(Mode.ON), 300)

    assert {one.share for one in seen} == {1.0}


COOL = Thermal(state=None, reason="a test", hottest_celsius=50.0, margin_celsius=30.0)
HOT = replace(COOL, hottest_celsius=80.0, margin_celsius=0.0, is_by_heat=True)


def test_a_verdict_holds_for_an_hour_of_work_and_no_for_twice_as_long_each_time() -> None:
    governor, now_s = Governor(), 0.0

    def compute(thermal: Thermal, busy_s: float) -> Phase:
        nonlocal now_s
        now_s += 1
        return governor.observe(now_s, thermal, Work(busy_s=busy_s, done_ms=busy_s * 1000)).phase

    for kept_s in (KEPT_S, 2 * KEPT_S):
        assert compute(HOT, 1.0) is Phase.MEASURING
        while compute(HOT, 10.0) is Phase.MEASURING:
            pass
        assert compute(HOT, kept_s - 10) is Phase.NOT_BETTER
        assert compute(COOL, 10.0) is Phase.WATCHING
    assert compute(HOT, 0.0) is Phase.WATCHING, "nothing of ours made it hot"


def test_a_machine_that_cooled_down_ends_the_measuring() -> None:
    governor = Governor()
    governor.observe(0.0, HOT, Work(busy_s=1.0, done_ms=1000.0))
    work = Work(busy_s=10.0, done_ms=1e4)
    seen = [governor.observe(at, COOL, work) for at in range(1, 99)]

    assert phases(seen) == [Phase.MEASURING, Phase.NOT_BETTER]


def test_throttling_that_a_cpu_counts_is_seen() -> None:
    governor = Governor()
    seen = [
        governor.observe(at, replace(COOL, throttle_count=count), Work(busy_s=1.0, done_ms=9.0))
        for at, count in enumerate((7, 7, 8, 8))
    ]

    assert [one.throttles for one in seen] == [False, False, True, False]


def test_a_share_has_a_least(tmp_path: Path) -> None:
    governor = Governor(Mode.ON)
    for at in range(100):
        governed = governor.observe(at, HOT, Work(busy_s=1.0, done_ms=1.0))

    assert governed.share == LEAST_SHARE
