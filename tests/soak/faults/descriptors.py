"""A server that has no file descriptors left. Knows no connection."""

from __future__ import annotations

import contextlib
import random
import resource
from collections.abc import Iterator
from pathlib import Path

from tests.soak.faults.fault import Fault
from tests.soak.house import House


@contextlib.contextmanager
def _exhausted(house: House, rng: random.Random) -> Iterator[None]:
    with _no_more(house):
        yield


@contextlib.contextmanager
def _exhausted_and_killed(house: House, rng: random.Random) -> Iterator[None]:
    """So that a worker cannot be started again at once."""
    worker = house.worker()
    with _no_more(house):
        worker.kill()
        yield


@contextlib.contextmanager
def _no_more(house: House) -> Iterator[None]:
    num_open = len(list(Path(f"/proc/{house.pid}/fd").iterdir()))
    soft, hard = resource.prlimit(house.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(house.pid, resource.RLIMIT_NOFILE, (num_open, hard))
    try:
        yield
    finally:
        resource.prlimit(house.pid, resource.RLIMIT_NOFILE, (soft, hard))


FAULTS = (
    Fault(name="no descriptors", befall=_exhausted, hold_s=5.0),
    Fault(name="no descriptors, worker killed", befall=_exhausted_and_killed, hold_s=5.0),
)
