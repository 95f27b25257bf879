"""A state folder that is full, or cannot be written. Knows no file of it by name."""

from __future__ import annotations

import contextlib
import random
import resource
import subprocess
from collections.abc import Iterator

from tests.soak.faults.fault import Fault
from tests.soak.house import House

_DISK = "a disk of its own"
_PIECE_BYTES = 1 << 20


@contextlib.contextmanager
def _full(house: House, rng: random.Random) -> Iterator[None]:
    filler = house.state / "filler"
    try:
        _fill(house, num_bytes=_PIECE_BYTES)
        _fill(house, num_bytes=1)
        yield
    finally:
        filler.unlink()


def _fill(house: House, num_bytes: int) -> None:
    """To the last piece of so many bytes."""
    with (house.state / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(num_bytes)) == num_bytes:
            pass


@contextlib.contextmanager
def _read_only(house: House, rng: random.Random) -> Iterator[None]:
    """Whatever is opened from now on; what was open for writing stays so."""
    path = str(house.state)
    _run("mount", "--bind", path, path)
    try:
        _run("mount", "-o", "remount,bind,ro", path)
        yield
    finally:
        _run("umount", "-l", path)


@contextlib.contextmanager
def _read_only_start(house: House, rng: random.Random) -> Iterator[None]:
    """A server that is started when nothing can be written. It may say no, in words."""
    assert house.stop() == 0
    with _read_only(house, rng):
        house.begin()
        house.await_value("word of it", lambda: house.is_ready or house.has_ended)
        if house.has_ended:
            assert house.stop() in (1, 2), house.server.log
            assert "Read-only file system" in house.server.log, house.server.log
        else:
            assert house.stop() == 0
        assert "Traceback" not in house.server.log, house.server.log
    house.start()
    yield


@contextlib.contextmanager
def _no_growth(house: House, rng: random.Random) -> Iterator[None]:
    """No file may be written by the server or its worker: a limit of the process."""
    processes = [house.pid, house.worker().pid]
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in processes]
    for pid, (_, hard) in zip(processes, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        for pid, limits in zip(processes, before, strict=True):
            with contextlib.suppress(ProcessLookupError):  # its worker was replaced
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


FAULTS = (
    Fault(name="disk full", befall=_full, needs=_DISK, hold_s=5.0),
    Fault(name="read-only state", befall=_read_only, needs=_DISK, hold_s=5.0),
    Fault(name="start on read-only state", befall=_read_only_start, needs=_DISK, is_restart=True),
    Fault(name="no file may grow", befall=_no_growth, hold_s=5.0),
)
