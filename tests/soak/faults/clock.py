"""Steps of the wall clock, forward and back. Knows no request."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

from tests.soak.faults.fault import Fault
from tests.soak.house import House

_STEPS_S = (-40 * 86_400, -86_400, -3600, -5, 5, 3600, 86_400, 400 * 86_400)


@contextlib.contextmanager
def _stepped(house: House, rng: random.Random) -> Iterator[None]:
    """There and back again: both are steps."""
    ahead_s = rng.choice(_STEPS_S)
    house.clock.set_ahead(ahead_s)
    try:
        yield
    finally:
        house.clock.set_ahead(0)


FAULTS = (Fault(name="clock step", befall=_stepped, needs="a clock that steps", hold_s=4.0),)
