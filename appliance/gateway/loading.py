"""What the model manager asks of whoever can load models.

Knows no file, no plan's details and no process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from appliance.worker.client import Client


class ManagedWorker(Client, Protocol):
    """A model in a process of its own."""

    async def start(self) -> None:
        """Loads the model.

        Raises `ApplianceError` if that cannot be done; then no process is left.
        """

    async def stop(self) -> None:
        """Ends the process; when this returns, its memory is free.

        Requests in flight get `ShuttingDown`.
        """

    async def failed(self) -> None:
        """Waits until no process will run any more although nobody stopped it, and
        raises `WorkerLost`; `HelperLost` where the model, planned anew, may be served.
        """


class LoadPlan(Protocol):
    """How a model would be loaded."""

    @property
    def need_bytes(self) -> int:
        """What it takes of the budget: all of the worker's memory, prefixes in host
        memory included.
        """

    @property
    def anonymous_bytes(self) -> int:
        """The part of it that is not mapped from the model's file."""

    @property
    def choice(self) -> str:
        """What was chosen, in words: `Q4_K_M, context 8192, ...`."""

    @property
    def reason(self) -> str:
        """Why that was chosen, in words."""

    @property
    def parts(self) -> Mapping[str, int]:
        """What `need_bytes` is made of, in bytes by names for people."""

    def make_worker(self) -> ManagedWorker:
        """One that has not been started yet."""


class Loader(Protocol):
    """Makes plans for models, given by their ids.

    Every method may take long, and none blocks the event loop.

    Each raises an `ApplianceError` that says why it cannot be done; cancelling leaves
    nothing running.
    """

    async def prepare(self, model_id: str) -> None:
        """Sees to it that the model's files are here and sound: pulls and converts what
        is missing.
        """

    async def want(self, model_id: str) -> LoadPlan:
        """What the model should get
        of an empty budget, beside the other models that are served.

        Raises `NothingFits` where it fits in no way.
        """

    async def plan(self, model_id: str, num_bytes: int) -> LoadPlan:
        """The best that needs at most `num_bytes`. Raises `NothingFits`."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Seconds that never go back, and calls in the future: what an event loop has."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer: ...


class LoopClock:
    """The running event loop's."""

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)
