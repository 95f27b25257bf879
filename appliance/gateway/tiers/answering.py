"""Answers of the model `auto`: the chosen model's, or a larger one's where that gave none that
is good enough.

Knows no wire format and no key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace

import msgspec

from appliance.errors import (
    ApplianceError,
    ModelLoading,
    ModelUnavailable,
    PromptTooLong,
    WorkerLost,
)
from appliance.gateway.choice_stream import Answer, Answering
from appliance.gateway.queue.deadline import ask_timeout
from appliance.gateway.router import ServedModel
from appliance.gateway.tiers.choosing import Choice
from appliance.gateway.tiers.verdict import complaint_about
from appliance.protocol.events import Delta, Event, Finished, Route, Started
from appliance.protocol.requests import GenerateRequest

_log = logging.getLogger(__name__)

# What another model may do better. A full queue is none of it: a larger model is slower.
_WORTH_ANOTHER = (PromptTooLong, ModelUnavailable, ModelLoading, WorkerLost)


class RoutedAnswering:
    """Implements `appliance.gateway.choice_stream.Answering` for the requests of one call.

    Each model is asked once at most. Where the answer is read whole it is looked at before
    anybody sees it; of a stream only what fails before its first event is asked elsewhere.
    Every model that is asked counts as a request of its own: it has computed.
    """

    def __init__(
        self,
        choice: Choice,
        answering_of: Callable[[ServedModel], Answering],
        *,
        is_whole: bool,
        min_logprob: float | None,
        timeout_s: float | None = None,
    ) -> None:
        """`is_whole`: nobody reads an answer before its end. `timeout_s` holds for all models
        together.
        """
        self._choice = choice
        self._answering_of = answering_of
        self._is_whole = is_whole
        self._min_logprob = min_logprob
        self._timeout_s = timeout_s
        self._at = 0  # the model that is being asked, of the choice's
        self._num_asked = 1
        self._complaints: list[str] = []  # about models whose answer would not do, in words

    # --- see `Answering` --------------------------------------------------------------

    @asynccontextmanager
    async def begin(
        self, request: GenerateRequest, on_waiting: Callable[[], None], /
    ) -> AsyncIterator[AsyncIterator[Event]]:
        began_s = asyncio.get_running_loop().time()
        async with AsyncExitStack() as stack:
            # what refuses the request is raised where it begins, as by any model
            first = await stack.enter_async_context(self._ask(request, on_waiting))
            answer = self._judged if self._is_whole else self._streamed
            async with aclosing(answer(request, on_waiting, first, stack, began_s)) as events:
                yield events

    def resume(self, request: GenerateRequest) -> Answer:
        return self._resumed(request)

    def forget(self, request: GenerateRequest) -> None:
        self._answering_of(self._model).forget(request)

    @asynccontextmanager
    async def _resumed(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Event]]:
        async with self._answering_of(self._model).resume(request) as events:
            told = self._told_all(events)
            async with aclosing(told):
                yield told

    # --- one model after the other ----------------------------------------------------

    @property
    def _model(self) -> ServedModel:
        return self._choice.models[self._at]

    @property
    def _has_larger(self) -> bool:
        return self._at + 1 < len(self._choice.models)

    def _ask(self, request: GenerateRequest, on_waiting: Callable[[], None]) -> Answer:
        return self._answering_of(self._model).begin(self._watched(request), on_waiting)

    def _watched(self, request: GenerateRequest) -> GenerateRequest:
        """With log-probabilities, where they are to be looked at."""
        is_looked_at = self._is_whole and self._has_larger and self._min_logprob is not None
        if not is_looked_at or request.sampling.num_top_logprobs is not None:
            return request
        return msgspec.structs.replace(
            request, sampling=replace(request.sampling, num_top_logprobs=0)
        )

    async def _judged(
        self,
        request: GenerateRequest,
        on_waiting: Callable[[], None],
        events: AsyncIterator[Event],
        stack: AsyncExitStack,
        began_s: float,
    ) -> AsyncGenerator[Event, None]:
        """The events of the first model whose answer will do, else of the last that gave one."""
        shows_logprobs = request.sampling.num_top_logprobs is not None
        best: tuple[int, list[Event]] | None = None
        is_done = False
        while not is_done:
            try:
                if best is not None or self._complaints:
                    events = await self._ask_next(request, on_waiting, stack, began_s)
                best = self._at, [event async for event in events]
                is_done = self._is_good(request, best[1])
            except _WORTH_ANOTHER as error:
                if best is None and not self._has_larger:
                    raise
                self._complain(error.message)
            except ApplianceError as error:
                if best is None:
                    raise
                self._complain(error.message)
                is_done = True
            is_done = is_done or not self._has_larger
        assert best is not None, "without an answer the last error is raised"
        self._at, whole = best
        for event in whole:
            yield self._told(event, shows_logprobs=shows_logprobs)

    async def _streamed(
        self,
        request: GenerateRequest,
        on_waiting: Callable[[], None],
        events: AsyncIterator[Event],
        stack: AsyncExitStack,
        began_s: float,
    ) -> AsyncGenerator[Event, None]:
        has_begun = False
        while True:
            try:
                async for event in events:
                    has_begun = True
                    yield self._told(event)
                return
            except _WORTH_ANOTHER as error:
                if has_begun or not self._has_larger:
                    raise
                self._complain(error.message)
            events = await self._ask_next(request, on_waiting, stack, began_s)

    async def _ask_next(
        self,
        request: GenerateRequest,
        on_waiting: Callable[[], None],
        stack: AsyncExitStack,
        began_s: float,
    ) -> AsyncIterator[Event]:
        """Once the model before is left; it has what is left of the time."""
        await stack.aclose()
        self._at += 1
        self._num_asked += 1
        if self._timeout_s is not None:
            spent_s = asyncio.get_running_loop().time() - began_s
            ask_timeout(max(0.001, self._timeout_s - spent_s))
        return await stack.enter_async_context(self._ask(request, on_waiting))

    def _is_good(self, request: GenerateRequest, whole: Sequence[Event]) -> bool:
        """Nobody complains about the largest model's answer: there is none to ask then."""
        if not self._has_larger:
            return True
        complaint = complaint_about(request, whole, self._min_logprob)
        if complaint is not None:
            self._complain(f"its answer {complaint}")
        return complaint is None

    def _complain(self, why: str) -> None:
        name = self._model.id
        _log.info("auto: %s: %s", name, why)
        self._complaints.append(f"{name}: {why}")

    # --- what is told -----------------------------------------------------------------

    @property
    def _route(self) -> Route:
        return Route(
            model=self._model.id,
            score=self._choice.score,
            reason="; ".join([self._choice.reason, *self._complaints]),
            asked=[model.id for model in self._choice.models[: self._num_asked]],
        )

    def _told(self, event: Event, *, shows_logprobs: bool = True) -> Event:
        if isinstance(event, Started):
            return msgspec.structs.replace(event, route=self._route)
        if isinstance(event, Finished):
            usage = msgspec.structs.replace(event.usage, route=self._route)
            return msgspec.structs.replace(event, usage=usage)
        if isinstance(event, Delta) and not shows_logprobs and event.tokens is not None:
            return msgspec.structs.replace(event, tokens=None)
        return event

    async def _told_all(self, events: AsyncIterator[Event]) -> AsyncGenerator[Event, None]:
        async for event in events:
            yield self._told(event)
