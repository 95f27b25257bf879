"""The line before one model: a request waits here until its worker can use it.

Knows no HTTP and asks the model nothing but what it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import QueueFull
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.accounts.cost import Cost
from appliance.gateway.queue.fair import Entry, FairQueue
from appliance.gateway.queue.limits import QueueLimits

_MAX_RETRY_AFTER_S = 60
# Of the line, so much is left to callers who have little in it: one who asks for
# everything at once fills the rest, and finds out by 429.
_SHARE_OF_ONE = 7 / 8


@dataclass(frozen=True, kw_only=True)
class LineState:
    """How long the line is."""

    num_waiting: int
    num_waiting_tokens: int  # estimated, answers included
    oldest_wait_s: float  # of those that wait


NOBODY = LineState(num_waiting=0, num_waiting_tokens=0, oldest_wait_s=0.0)


@dataclass(eq=False)
class _Place:
    since_s: float
    prompt_tokens: int
    is_yielding: bool
    granted: asyncio.Future[None]
    is_granted: bool = False  # also where its task has been cancelled, and does not know it yet


class Turn:
    """The right to be computed, from when it is given to `end`."""

    def __init__(self, line: Line, entry: Entry[_Place] | None) -> None:
        self._line = line
        self._entry = entry  # None: it did not wait
        self._is_over = False

    def end(self) -> None:
        """The worker has no more to do for it. Once is enough."""
        if not self._is_over:
            self._is_over = True
            self._line.leave()

    def settle(self, num_tokens: int) -> None:
        """How many tokens were computed."""
        if self._entry is not None:
            self._line.settle(self._entry, num_tokens)


class Line:
    """Requests for one model, of all callers. Callers that yield come after all others."""

    def __init__(
        self, limits: Callable[[], QueueLimits | None], clock: Callable[[], float]
    ) -> None:
        """`limits` of this moment, None where there is nothing to wait for; `clock` in s."""
        self._limits = limits
        self._clock = clock
        self._first: FairQueue[_Place] = FairQueue()
        self._last: FairQueue[_Place] = FairQueue()  # of callers that yield
        self._num_held = 0  # whose turn it is
        self._last_wait_s = 0.0  # of the last one that had its turn after waiting

    @property
    def is_unused(self) -> bool:
        return self._num_held == 0 and not self._num_waiting

    @property
    def state(self) -> LineState:
        return LineState(
            num_waiting=self._num_waiting,
            num_waiting_tokens=self._first.num_tokens + self._last.num_tokens,
            oldest_wait_s=self._oldest_wait_s(),
        )

    async def enter(
        self,
        caller: Caller,
        cost: Callable[[], Cost],
        on_waiting: Callable[[], None],
    ) -> Turn:
        """Waits for the turn of a request; cancelling leaves the line. `cost` is asked for,
        and `on_waiting` called, only where it has to wait.

        Raises `QueueFull` where too much waits already.
        """
        if not self._num_waiting and self._has_room():
            self._num_held += 1
            return Turn(self, None)
        entry = self._put(caller, cost())
        on_waiting()
        granted = entry.item.granted
        try:
            await granted
        except asyncio.CancelledError:
            if entry.item.is_granted:
                self.leave()  # its turn came just when it left
            else:
                self._queue_of(entry).discard(entry)
            raise
        return Turn(self, entry)

    def leave(self) -> None:
        """One whose turn it was needs it no longer."""
        self._num_held -= 1
        assert self._num_held >= 0
        while self._num_waiting and self._has_room():
            entry = (self._first if len(self._first) else self._last).take()
            self._num_held += 1
            self._last_wait_s = self._clock() - entry.item.since_s
            entry.item.is_granted = True
            if not entry.item.granted.done():
                entry.item.granted.set_result(None)

    def settle(self, entry: Entry[_Place], num_tokens: int) -> None:
        self._queue_of(entry).settle(entry, num_tokens)

    def _put(self, caller: Caller, cost: Cost) -> Entry[_Place]:
        place = _Place(
            since_s=self._clock(),
            prompt_tokens=cost.prompt,
            is_yielding=caller.yields,
            granted=asyncio.get_running_loop().create_future(),
        )
        entry = Entry(caller.id, max(1, caller.priority), cost.prompt + cost.answer, place)
        queue = self._queue_of(entry)
        self._check_room(queue, entry)
        queue.put(entry)
        return entry

    def _check_room(self, queue: FairQueue[_Place], entry: Entry[_Place]) -> None:
        limits = self._limits()
        if limits is None or not self._num_waiting:
            return  # one may always wait, as long as it is
        own = [waiting for waiting in queue if waiting.caller_id == entry.caller_id]
        num_waiting = self._num_waiting
        if num_waiting >= limits.max_waiting:
            raise self._full(f"{num_waiting} requests wait for this model already")
        if len(own) >= limits.max_waiting * _SHARE_OF_ONE:
            raise self._full(f"{len(own)} requests of yours wait for this model already")
        if limits.max_waiting_tokens is None:
            return
        new, limit = entry.item.prompt_tokens, limits.max_waiting_tokens
        num_tokens = sum(each.item.prompt_tokens for each in (*self._first, *self._last))
        num_own = sum(each.item.prompt_tokens for each in own)
        if num_tokens + new > limit or (own and num_own + new > limit * _SHARE_OF_ONE):
            raise self._full(
                f"about {num_tokens} prompt tokens wait for this model already, {num_own} of them "
                f"yours, and about {new} more would exceed --max-waiting {limit}"
            )

    def _full(self, reason: str) -> QueueFull:
        error = QueueFull(f"The queue is full: {reason}. Try again later.")
        wait_s = max(self._last_wait_s, self._oldest_wait_s())
        error.retry_after_s = min(_MAX_RETRY_AFTER_S, max(1, math.ceil(wait_s)))
        return error

    @property
    def _num_waiting(self) -> int:
        return len(self._first) + len(self._last)

    def _oldest_wait_s(self) -> float:
        since_s = [entry.item.since_s for entry in (*self._first, *self._last)]
        return self._clock() - min(since_s) if since_s else 0.0

    def _has_room(self) -> bool:
        limits = self._limits()
        return limits is None or self._num_held < limits.num_at_once

    def _queue_of(self, entry: Entry[_Place]) -> FairQueue[_Place]:
        return self._last if entry.item.is_yielding else self._first
