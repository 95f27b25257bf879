"""Workers that are killed, or stopped as if they hung. Knows no request."""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Iterator

import psutil

from tests.soak.faults.fault import Fault
from tests.soak.house import House

_HELD_S = 40.0  # a worker that is silent for 30 s is given up
_PAUSED_S = 6.0  # `/health` says so, and nobody loses anything
_GONE_S = 30.0


@contextlib.contextmanager
def _killed(house: House, rng: random.Random) -> Iterator[None]:
    worker = house.worker()
    worker.kill()
    _await_end(house, worker)
    yield


@contextlib.contextmanager
def _hung(house: House, rng: random.Random) -> Iterator[None]:
    worker = house.worker()
    worker.send_signal(signal.SIGSTOP)
    yield
    _await_end(house, worker)


@contextlib.contextmanager
def _paused(house: House, rng: random.Random) -> Iterator[None]:
    worker = house.worker()
    worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.send_signal(signal.SIGCONT)
    assert worker.is_running(), "it was given up within seconds"


def _await_end(house: House, worker: psutil.Process) -> None:
    house.await_value(f"end of worker {worker.pid}", lambda: not worker.is_running(), _GONE_S)


FAULTS = (
    Fault(name="worker killed", befall=_killed),
    Fault(name="worker hung", befall=_hung, hold_s=_HELD_S),
    Fault(name="worker paused", befall=_paused, hold_s=_PAUSED_S),
)
