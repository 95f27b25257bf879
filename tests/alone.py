"""Tests beside others, where `pytest -n 2` runs two processes: one marked `alone` waits
until nothing else runs, and nothing else begins until it has ended.

For tests whose subject is what this machine can do meanwhile: its cores are theirs then. A
run in one process needs none of this, and a mark changes nothing there.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# any two files that every process of a run has: locked, and never written
_GATE, _ROOM = Path(__file__), Path(__file__).parent / "__init__.py"


@contextmanager
def company(*, alone: bool) -> Iterator[None]:
    """Until the end of it, no other process of the run is in here `alone`; with `alone`, none
    is in here at all.
    """
    # who wants to be alone waits holding the gate: what is in the room ends, and nobody
    # comes in before it
    with ExitStack() as locks:
        with _locked(_GATE, fcntl.LOCK_EX):
            locks.enter_context(_locked(_ROOM, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with path.open("rb") as file:
        fcntl.flock(file, kind)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a child that was forked has the file too
