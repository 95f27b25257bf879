"""One process at a time in a folder of the models directory.

Knows nothing of what is done there.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from appliance.store.event import OnEvent, StoreEvent

_LOCK_NAME = ".lock"


@contextlib.contextmanager
def locked(directory: Path, what: str, on_event: OnEvent) -> Iterator[None]:
    """Holds the folder's lock, after reporting whom we wait for (`what`: "pulling
    into"); the kernel releases it however we end.
    """
    with (directory / _LOCK_NAME).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_event(StoreEvent(f"waiting for another process that is {what} {directory}"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
