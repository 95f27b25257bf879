"""The answers to one call as one stream of events, which its reader may leave and come
back to.

Knows no model and no wire format.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import msgspec

from appliance.gateway.choices import ChoiceEvent
from appliance.protocol.events import Event, Finished
from appliance.protocol.requests import GenerateRequest, TextPrompt

# entering begins or resumes an answer, leaving cancels or interrupts it
Answer = AbstractAsyncContextManager[AsyncIterator[Event]]


class Answering(Protocol):
    """How one answer is had."""

    def begin(self, request: GenerateRequest, on_waiting: Callable[[], None], /) -> Answer:
        """`on_waiting` is called, before any event, where the answer has to wait for its
        turn.
        """

    def resume(self, request: GenerateRequest) -> Answer: ...

    def forget(self, request: GenerateRequest) -> None: ...


class ChoiceStream(AbstractAsyncContextManager[AsyncIterator[ChoiceEvent]]):
    """Entering it begins all answers, leaving it early cancels them.

    After `keep`, leaving it early interrupts them: nothing is computed until it is
    entered again, which goes on after the last event that was read, or until `forget`.
    Observers see that as another request, without a prompt.
    """

    def __init__(self, answering: Answering, requests: Sequence[GenerateRequest]) -> None:
        self._answering = answering
        self._requests = requests
        self._unread: deque[ChoiceEvent] = deque()  # of those that were taken from the answers
        self._begun: set[int] = set()  # an event of them has come
        self._settled: set[int] = set()  # not refused: they have begun, or wait for their turn
        self._ended: set[int] = set()
        self._was_entered = False
        self._stack = AsyncExitStack()

    def keep(self, name: str) -> None:
        """Before it is entered; `name` is no other one's."""
        self._requests = [
            msgspec.structs.replace(request, resume_id=f"{name}.{index}")
            for index, request in enumerate(self._requests)
        ]

    def forget(self) -> None:
        """Cancels what was interrupted; it is not entered again."""
        for index, request in enumerate(self._requests):
            if request.resume_id and self._was_entered and index not in self._ended:
                self._answering.forget(request)

    async def __aenter__(self) -> AsyncIterator[ChoiceEvent]:
        """Raises what `Gateway.generate` raises."""
        self._was_entered = True
        async with AsyncExitStack() as stack:  # what fails on the way leaves nothing open
            answers = {
                index: await stack.enter_async_context(self._open(index, request))
                for index, request in enumerate(self._requests)
                if index not in self._ended
            }
            merged = self._only(answers) if len(self._requests) == 1 else self._merged(answers)
            events = await stack.enter_async_context(aclosing(merged))
            self._stack = stack.pop_all()
        return events

    def _open(self, index: int, request: GenerateRequest) -> Answer:
        if index in self._begun:
            return self._answering.resume(request)
        return self._answering.begin(request, lambda: self._settled.add(index))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if len(self._ended) < len(self._requests):
            # What was interrupted is held for a while, and its prompt may be large.
            self._requests = [
                msgspec.structs.replace(request, prompt=TextPrompt(""))
                if index in self._begun
                else request
                for index, request in enumerate(self._requests)
            ]
        return await self._stack.__aexit__(kind, error, traceback)

    async def _only(
        self, answers: Mapping[int, AsyncIterator[Event]]
    ) -> AsyncGenerator[ChoiceEvent, None]:
        """As nearly always: nothing to merge, and nothing is taken before it is read."""
        for index, events in answers.items():
            async for event in events:
                self._begun.add(index)
                if isinstance(event, Finished):
                    self._ended.add(index)
                yield ChoiceEvent(index, event)

    async def _merged(
        self, answers: Mapping[int, AsyncIterator[Event]]
    ) -> AsyncGenerator[ChoiceEvent, None]:
        """All answers' events as they come, once every answer has started or waits for its
        turn: what refuses one is raised before any event, as far as is known by then.

        Raises what the first of them to fail raises, and then reads none of them any
        more.
        """
        handover = _Handover(len(self._requests))
        readers = [
            asyncio.create_task(self._read(index, events, handover))
            for index, events in answers.items()
        ]
        num_open = len(readers)
        try:
            while True:
                while self._unread and len(self._settled) == len(self._requests):
                    yield self._unread.popleft()
                if not num_open:
                    return
                item = await handover.take()
                if isinstance(item, ChoiceEvent):
                    self._settled.add(item.index)
                    self._unread.append(item)
                    continue
                num_open -= 1
                if item.error is not None:
                    raise item.error
        finally:
            handover.is_left = True
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            self._unread.extend(handover.rest())

    async def _read(self, index: int, events: AsyncIterator[Event], handover: _Handover) -> None:
        try:
            async for event in events:
                self._begun.add(index)
                if isinstance(event, Finished):
                    self._ended.add(index)
                if not await handover.put(ChoiceEvent(index, event)):
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the events are read
            await handover.put(_ChoiceEnd(error))
        else:
            await handover.put(_ChoiceEnd(None))


@dataclass(frozen=True)
class _ChoiceEnd:
    """The end of one choice's events, and what it raised."""

    error: Exception | None


class _Handover:
    """From those who read the answers to the one who merges them."""

    def __init__(self, num_answers: int) -> None:
        # Bounded, so that a slow reader is noticed where each answer's events wait, by
        # their number.
        self._queue: asyncio.Queue[ChoiceEvent | _ChoiceEnd] = asyncio.Queue(num_answers)
        self._had_no_room: list[ChoiceEvent | _ChoiceEnd] = []
        self.is_left = False  # nobody takes anything any more

    async def take(self) -> ChoiceEvent | _ChoiceEnd:
        return await self._queue.get()

    async def put(self, item: ChoiceEvent | _ChoiceEnd) -> bool:
        """Waits for room. False where it is left: who has lost a cancellation, or met an
        error in its place, would wait for ever.
        """
        try:
            if not self.is_left:
                await self._queue.put(item)
                return True
        except asyncio.CancelledError:
            self._had_no_room.append(item)
            raise
        self._had_no_room.append(item)
        return False

    def rest(self) -> Iterator[ChoiceEvent]:
        """The events that nobody took, once nobody puts any more."""
        queued = (self._queue.get_nowait() for _ in range(self._queue.qsize()))
        return (item for item in (*queued, *self._had_no_room) if isinstance(item, ChoiceEvent))
