"""How long a request took, as Ollama reports it.

Knows no format's records and no worker.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone

from appliance.api.transport.completed_choice import ChoiceEvents
from appliance.gateway.choices import ChoiceEvent

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


def rfc3339(unix_s: float) -> str:
    """`2026-11-29T20:57:01.250000Z`."""
    moment = datetime.fromtimestamp(unix_s, tz=timezone.utc)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


@dataclass
class Stopwatch:
    """From when a request came; the clocks are for tests."""

    clock_ns: Callable[[], int] = time.monotonic_ns
    unix_s: Callable[[], float] = time.time
    begun_ns: int = field(init=False)
    accepted_ns: int | None = None  # when the model had taken it

    def __post_init__(self) -> None:
        self.begun_ns = self.clock_ns()

    @property
    def total_ns(self) -> int:
        return self.clock_ns() - self.begun_ns

    @property
    def load_ns(self) -> int:
        """Until the model was there and had taken the request."""
        return 0 if self.accepted_ns is None else self.accepted_ns - self.begun_ns

    def now(self) -> str:
        return rfc3339(self.unix_s())

    def accept(self) -> None:
        if self.accepted_ns is None:
            self.accepted_ns = self.clock_ns()

    @asynccontextmanager
    async def watched(self, events: ChoiceEvents) -> AsyncIterator[AsyncIterator[ChoiceEvent]]:
        """The same events; the first one says that the request is accepted."""
        async with events as happening, aclosing(self._watched(happening)) as watched:
            yield watched

    async def _watched(
        self, happening: AsyncIterator[ChoiceEvent]
    ) -> AsyncGenerator[ChoiceEvent, None]:
        async for happened in happening:
            self.accept()
            yield happened
