"""Fills a server's pool of KV cells with one long request per slot,
and counts the tokens of all.

Knows no memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from appliance.cli.bench.stream import Endpoint, Request, RequestFailed, now_s
from bench.memory_groups.server import GroupServer, Served

_POLL_S = 0.02
_LEAST_PROMPT_TOKENS = 16
# of a synthetic vocabulary: those before are bytes, of which some are no text of their
# own
_FIRST_TOKEN_ID = 256


@dataclass(frozen=True)
class PoolWindow:
    """Tokens of all streams within a time."""

    num_tokens: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.elapsed_s


class FullPool:
    """Requests in progress, which together will have taken every cell when they end."""

    def __init__(self, server: GroupServer, endpoint: Endpoint, requests: list[Request]) -> None:
        self._server = server
        self._requests = requests
        self._num_events = [0] * len(requests)
        self._tasks = [
            asyncio.create_task(endpoint.complete(request, self._counter(number)))
            for number, request in enumerate(requests)
        ]

    @property
    def num_cells(self) -> int:
        """Tokens of all prompts and answers so far, each in a cell of its own."""
        return sum(len(request.prompt) for request in self._requests) + sum(self._num_events)

    async def await_all_decoding(self) -> None:
        """Until every prompt is computed. Raises `Killed` or `RequestFailed`."""
        await self._until(lambda: all(self._num_events))

    async def await_first_end(self) -> None:
        """Until the first request has taken all its cells."""
        await self._until(lambda: any(task.done() for task in self._tasks))

    async def measure(self, num_tokens: int, most_s: float) -> PoolWindow:
        """Until each stream has written so many more tokens,
        but for not much longer than `most_s`.

        Raises `Killed`, or `RequestFailed` where a stream came to its end before.
        """
        at_start, began_s = list(self._num_events), now_s()

        def is_over() -> bool:
            enough = all(
                now - then >= num_tokens
                for now, then in zip(self._num_events, at_start, strict=True)
            )
            return enough or now_s() - began_s > most_s

        await self._until(is_over)
        if any(task.done() for task in self._tasks):
            raise RequestFailed("an answer ended before everything was measured")
        return PoolWindow(sum(self._num_events) - sum(at_start), now_s() - began_s)

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _counter(self, number: int) -> Callable[[int], None]:
        def count(num_events: int) -> None:
            self._num_events[number] = num_events

        return count

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._server.check()
            for task in self._tasks:
                if task.done() and task.exception() is not None:
                    raise task.exception() or RequestFailed("without a reason")
            await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def filled(
    server: GroupServer, served: Served, num_answer_tokens: int
) -> AsyncIterator[FullPool]:
    """The pool while all slots are decoding; each leaves room for so many tokens of its
    answer, if it can.
    """
    pool = FullPool(server, server.endpoint, _requests(served, num_answer_tokens))
    try:
        await pool.await_all_decoding()
        yield pool
    finally:
        await pool.cancel()


def _requests(served: Served, num_answer_tokens: int) -> list[Request]:
    num_tokens = min(served.kv_cells // served.slots, served.ctx)
    num_answer_tokens = min(num_answer_tokens, num_tokens - _LEAST_PROMPT_TOKENS)
    rng = random.Random(served.kv_cells)
    return [
        Request(
            f"stream {number}",
            [_FIRST_TOKEN_ID + rng.randrange(512) for _ in range(num_tokens - num_answer_tokens)],
            num_answer_tokens,
        )
        for number in range(served.slots)
    ]
