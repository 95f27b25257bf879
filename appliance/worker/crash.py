"""How a worker process ended, and what its owner may do about it.

Knows no CPU path and starts no process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from appliance.worker.config import WorkerConfig


@dataclass(frozen=True)
class Crash:
    """A worker that ended by itself."""

    status: int  # the process's; negative for a signal
    was_ready: bool  # the model had been loaded
    # why it could not be, where the worker could still report it: before it exited, or
    # before llama.cpp ended it
    load_error: str | None = None
    load_code: str = ""  # of that error, as in `appliance.errors`

    def __str__(self) -> str:
        if self.status < 0:
            because = f" ({self.load_error})" if self.load_error is not None else ""
            return f"killed by {signal_name(-self.status)}{because}"
        if self.load_error is not None:
            return f"unable to load: {self.load_error}"
        return f"exited with status {self.status}"


def signal_name(number: int) -> str:
    """`SIGKILL`, or `signal 40` where a number has no name (real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class Remedy:
    """What to do about a crash."""

    reason: str  # for people
    config: WorkerConfig | None = None  # for the next worker; None: as before
    loads_anew: bool = False  # there is no next one: the model has to be planned again


OnCrash = Callable[[Crash], Remedy | None]
