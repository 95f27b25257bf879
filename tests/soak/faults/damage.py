"""Files of the state folder that hold something else than was written: SQLite files, and
saved prefixes; while the server runs, and between two starts.

Knows no table. What was lost is lost; who asks is served.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tests.soak.faults.fault import Fault
from tests.soak.house import House

KEYS = "keys.sqlite"
_LOSABLE = ("usage.sqlite", "responses.sqlite", "batches.sqlite")
_BESIDE = ("-wal", "-shm")
_NUM_BYTES = 4096


@contextlib.contextmanager
def _while_running(house: House, rng: random.Random) -> Iterator[None]:
    for name in _LOSABLE:
        _overwrite(house.state / name, rng)
    for path in sorted(house.state.glob("prefixes/*/*.prefix")):
        _overwrite(path, rng)
    yield


@contextlib.contextmanager
def _keys_while_running(house: House, rng: random.Random) -> Iterator[None]:
    """The keys that are known go on counting; a copy takes their place."""
    with _copied(house.state / KEYS):
        _overwrite(house.state / KEYS, rng)
        yield


@contextlib.contextmanager
def _between_starts(house: House, rng: random.Random) -> Iterator[None]:
    assert house.stop() == 0
    for name in _LOSABLE:
        _overwrite(house.state / name, rng)
    for path in sorted(house.state.glob("prefixes/*/*.prefix")):
        _overwrite(path, rng)
    house.start()
    yield


@contextlib.contextmanager
def _keys_between_starts(house: House, rng: random.Random) -> Iterator[None]:
    """It must not start: it would stand open. With a copy it does."""
    assert house.stop() == 0
    with _copied(house.state / KEYS):
        _overwrite(house.state / KEYS, rng)
        house.begin()
        code = house.server.process.wait(60)
        log = house.server.log
        house.server.end()
        assert code == 2, log
        assert "is damaged" in log, log
        assert "Traceback" not in log, log
    house.start()
    yield


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[None]:
    """In its place again at the end, without what lay beside the damaged one."""
    copy = path.with_name("copy.sqlite")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    try:
        yield
    finally:
        for end in _BESIDE:
            Path(f"{path}{end}").unlink(missing_ok=True)
        shutil.move(copy, path)


def _overwrite(path: Path, rng: random.Random) -> None:
    """With noise: its first page, or another one."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(rng.choice((0, size // 2 // _NUM_BYTES * _NUM_BYTES)))
        file.write(rng.randbytes(_NUM_BYTES))


FAULTS = (
    Fault(name="damaged files", befall=_while_running),
    Fault(name="damaged keys", befall=_keys_while_running),
    Fault(name="damaged files at the start", befall=_between_starts, is_restart=True),
    Fault(name="damaged keys at the start", befall=_keys_between_starts, is_restart=True),
)
