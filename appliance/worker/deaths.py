"""What follows from a worker's death: how long its successor waits, and which requests are
under suspicion: these are tried one at a time.

Knows no process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from appliance.worker.crash import Crash
from appliance.worker.frames import AskQuestion, Embed, Submit, ToWorker
from appliance.worker.patience import Patience
from appliance.worker.suspects import Sent, Suspects, may_be_a_requests_fault


class Turn:
    """Begun and ended once; ended again, nothing happens. Without a lock it is nobody's."""

    def __init__(self, lock: asyncio.Lock | None) -> None:
        self._lock = lock
        self._is_held = False

    async def begin(self) -> None:
        if self._lock is not None:
            self._is_held = await self._lock.acquire()

    def end(self) -> None:
        if self._lock is not None and self._is_held:
            self._is_held = False
            self._lock.release()


class Deaths:
    """Of the workers of one model, which run one after the other. `clock` is in s."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._suspects = Suspects(clock)
        self._sent: dict[int, Sent] = {}  # what is in flight
        self._turns = asyncio.Lock()
        self._had_work = False
        self._began_s = clock()
        self._next_pause_s = patience.first_backoff_s

    @asynccontextmanager
    async def turn(self, sent: Sent) -> AsyncIterator[Turn]:
        """A suspect has to itself what comes before its first token, or its only answer:
        should the next worker die of it, no other suspect is in progress then.
        """
        turn = Turn(self._turns if self._suspects.has(sent) else None)
        try:
            await turn.begin()
            yield turn
        finally:
            turn.end()

    def take_up(self, message: ToWorker) -> None:
        """It is about to be sent. Raises `RequestAtFault` if two workers died of it."""
        if isinstance(message, Submit | AskQuestion | Embed):
            self._suspects.check(message)
            self._sent[message.request_id] = message
            self._had_work = True

    def put_down(self, request_id: int, *, has_ended: bool) -> None:
        """It ended, or nobody wants it any more."""
        sent = self._sent.pop(request_id, None)
        if sent is not None and has_ended:
            self._suspects.note_end(sent)

    def note(self, crash: Crash | None) -> None:
        """Before the requests in flight are ended. None: we had to kill it."""
        if may_be_a_requests_fault(crash):
            self._suspects.note_death(self._sent.values())
        self._sent.clear()

    def mended(self) -> None:
        """The next worker is another one: it was not the requests."""
        self._suspects.forget()

    def pause_s(self, *, was_ready: bool) -> float:
        """Before the next worker, which counts as begun then.

        One that had work, or lived long, is replaced at once: whosever fault its death
        was, a pause would only make everybody else wait. One that dies by itself, again
        and again, waits longer each time.
        """
        lived_s = self._clock() - self._began_s
        if was_ready and (self._had_work or lived_s > self._patience.healthy_s):
            pause_s, self._next_pause_s = 0.0, self._patience.first_backoff_s
        else:
            pause_s = self._next_pause_s
            self._next_pause_s = min(pause_s * 2, self._patience.longest_backoff_s)
        self._had_work = False
        self._began_s = self._clock() + pause_s
        return pause_s
