"""The way of a request to its model: it waits for its turn, and ends with its time.

Knows no HTTP, no key and no model's state.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.accounts.cost import cost_of
from appliance.gateway.loading import Clock, LoopClock
from appliance.gateway.queue.deadline import ASKED_TIMEOUT_S, Deadline
from appliance.gateway.queue.limits import MAX_WAITING, limits_of
from appliance.gateway.queue.turns import NOBODY, Line, LineState, Turn
from appliance.protocol.events import EmbedResult, Event, Finished, Started, Usage
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest
from appliance.worker.client import Client, nothing_to_tell


@dataclass(frozen=True, kw_only=True)
class QueueRules:
    """`request_timeout_s` is how long a request may take, waiting included; None: as long
    as it likes. A client may ask for less.
    """

    max_waiting: int = MAX_WAITING  # requests for one model
    request_timeout_s: float | None = None

    def timeout_s(self, caller: Caller) -> float | None:
        """For the request of this task; nobody waits for those of callers that yield."""
        if caller.yields:
            return None
        known = [each for each in (self.request_timeout_s, ASKED_TIMEOUT_S.get()) if each]
        return min(known, default=None)


class Queues:
    """A line for each model that somebody asks."""

    def __init__(self, rules: QueueRules, clock: Clock | None = None) -> None:
        """`clock`: the event loop's, unless another one is given."""
        self._rules = rules
        self._clock: Clock = clock or LoopClock()
        self._lines: dict[int, tuple[Client, Line]] = {}  # by the client's identity

    def timeout_s(self, caller: Caller) -> float | None:
        """See `QueueRules`."""
        return self._rules.timeout_s(caller)

    def state(self, client: Client) -> LineState:
        _, line = self._lines.get(id(client), (None, None))
        return NOBODY if line is None else line.state

    async def generate(
        self,
        caller: Caller,
        client: Client,
        request: GenerateRequest,
        on_waiting: Callable[[], None] = nothing_to_tell,
    ) -> AsyncGenerator[Event, None]:
        """The events of `client.generate`. `on_waiting` is called if it has to wait.

        Raises also `QueueFull`, and `TimeIsUp` at any point.
        """
        async with (
            self._turn(caller, client, request, on_waiting) as (turn, deadline),
            aclosing(client.generate(request, turn.end)) as events,
        ):
            deadline.doing = "its prompt had not been taken up"
            while True:
                try:
                    event = await deadline.wait(events.__anext__)
                except StopAsyncIteration:
                    return
                if isinstance(event, Finished):
                    turn.settle(_num_computed(event.usage))
                elif isinstance(event, Started):
                    deadline.doing = "its prompt was waiting for a slot, or being computed"
                else:
                    deadline.doing = "its answer was being computed"
                yield event

    async def embed(
        self, caller: Caller, client: Client, request: EmbedRequest | RerankRequest
    ) -> EmbedResult:
        """The result of `client.embed`. Raises as `generate` does."""
        async with self._turn(caller, client, request) as (_, deadline):
            deadline.doing = "it was being computed"
            return await deadline.wait(lambda: client.embed(request))

    @asynccontextmanager
    async def _turn(
        self,
        caller: Caller,
        client: Client,
        request: GenerateRequest | EmbedRequest | RerankRequest,
        on_waiting: Callable[[], None] = nothing_to_tell,
    ) -> AsyncIterator[tuple[Turn, Deadline]]:
        line = self._line(client)
        deadline = Deadline(self._rules.timeout_s(caller), self._clock)
        try:
            turn = await deadline.wait(
                lambda: line.enter(caller, lambda: cost_of(request), on_waiting)
            )
            try:
                yield turn, deadline
            finally:
                turn.end()
        finally:
            deadline.close()
            self._clear(client, line)

    def _line(self, client: Client) -> Line:
        known = self._lines.get(id(client))
        if known is None:
            line = Line(lambda: limits_of(client.info, self._rules.max_waiting), self._clock.time)
            known = self._lines[id(client)] = (client, line)
        return known[1]

    def _clear(self, client: Client, line: Line) -> None:
        """Models come and go: of one that nobody asks nothing is kept."""
        if line.is_unused and self._lines.get(id(client), (None, None))[1] is line:
            del self._lines[id(client)]


def _num_computed(usage: Usage) -> int:
    return usage.num_prompt_tokens - usage.num_cached_tokens + usage.num_completion_tokens
