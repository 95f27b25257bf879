"""A limit of memory that is lowered while the server runs. Knows no ladder."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

from tests.soak.faults.fault import Fault
from tests.soak.house import House
from tests.soak.memory_group import LIMIT_BYTES

_LEFT_BYTES = 16 << 20  # of 51 MiB of headroom: short, and enough to go on
_HELD_S = 20.0  # one rung a second or three, and some time on the highest
_BACK_S = 120.0  # it waits 15 s for each rung down


@contextlib.contextmanager
def _lowered(house: House, rng: random.Random) -> Iterator[None]:
    group = house.group
    num_killed = group.num_killed
    try:
        for level in (1, 2):  # what is given up at the first makes room
            group.set_limit(group.used_bytes + _LEFT_BYTES)
            house.await_value(
                f"memory pressure of level {level}",
                lambda: house.metric("appliance_memory_pressure_level") >= level,  # noqa: B023
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
