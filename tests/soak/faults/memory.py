"""A limit of memory that is lowered while the server runs. Knows no ladder."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

from tests.soak.faults.fault import Fault
from tests.soak.house import House
from tests.soak.memory_group import LIMIT_BYTES

_LEFT_BYTES = 16 << 20  # of 51 MiB of headroom: short, and enough to go on
_LEVEL = 2  # from which on long prompts are refused
_HELD_S = 20.0  # one rung a second or three, and some time on the highest
_BACK_S = 120.0  # it waits 15 s for each rung down


def _level_when_short(house: House) -> float:
    """The limit follows what is given up at the levels before, whenever that may be."""
    house.group.set_limit(house.group.used_bytes + _LEFT_BYTES)
    return house.metric("appliance_memory_pressure_level")


@contextlib.contextmanager
def _lowered(house: House, rng: random.Random) -> Iterator[None]:
    group = house.group
    num_killed = group.num_killed
    try:
        house.await_value(
            f"memory pressure of level {_LEVEL}",
            lambda: _level_when_short(house) >= _LEVEL,
        )
        yield
    finally:
        group.set_limit(LIMIT_BYTES)
    assert group.num_killed == num_killed, "the kernel had to end a process"


FAULTS = (
    Fault(
        name="memory limit lowered",
        befall=_lowered,
        needs="a control group",
        hold_s=_HELD_S,
        back_s=_BACK_S,
    ),
)
