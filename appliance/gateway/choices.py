"""Several answers, to one prompt or to several, as one stream of events.

Knows no model and no wire format.

Each is a request of its own: the engine computes a prompt that they share once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from appliance.protocol.events import Event
from appliance.protocol.requests import GenerateRequest

MAX_CHOICES = 16  # to one prompt: a request that asks for more is refused
MAX_ANSWERS = 128  # to all prompts of a request


@dataclass(frozen=True)
class ChoiceEvent:
    """What happened to one of the answers, counted from 0:
    first all to the first prompt.
    """

    index: int
    event: Event


@dataclass(frozen=True)
class _ChoiceEnd:
    """The end of one choice's events, and what it raised."""

    error: Exception | None


def choice_requests(prompts: Sequence[GenerateRequest], num_choices: int) -> list[GenerateRequest]:
    """One request per answer, so many to each prompt; a given seed counts upwards, so
    that each of these is another one and all can be had again.
    """
    return [_with_seed(request, index) for request in prompts for index in range(num_choices)]


def _with_seed(request: GenerateRequest, index: int) -> GenerateRequest:
    seed = request.sampling.seed
    if seed is None or index == 0:
        return request
    return msgspec.structs.replace(request, sampling=replace(request.sampling, seed=seed + index))


async def merge_choices(
    answers: Sequence[AsyncIterator[Event]],
) -> AsyncGenerator[ChoiceEvent, None]:
    """All answers' events as they come, once every answer has started: what refuses one
    is raised before any event.

    Raises what the first of them to fail raises, and then reads none of them any more.
    """
    if len(answers) == 1:  # as nearly always: nothing to merge
        async for event in answers[0]:
            yield ChoiceEvent(0, event)
        return
    # Bounded, so that a slow reader is noticed where each answer's events wait, by
    # their number.
    queue: asyncio.Queue[ChoiceEvent | _ChoiceEnd] = asyncio.Queue(len(answers))
    readers = [
        asyncio.create_task(_read(index, events, queue)) for index, events in enumerate(answers)
    ]
    try:
        async for happened in _merged(queue, len(answers)):
            yield happened
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _merged(
    queue: asyncio.Queue[ChoiceEvent | _ChoiceEnd], num_answers: int
) -> AsyncIterator[ChoiceEvent]:
    started: set[int] = set()
    held: list[ChoiceEvent] = []
    num_open = num_answers
    while num_open:
        item = await queue.get()
        if isinstance(item, _ChoiceEnd):
            num_open -= 1
            if item.error is not None:
                raise item.error
            continue
        started.add(item.index)
        held.append(item)
        if len(started) == num_answers:
            for happened in held:
                yield happened
            held.clear()


async def _read(
    index: int, events: AsyncIterator[Event], queue: asyncio.Queue[ChoiceEvent | _ChoiceEnd]
) -> None:
    try:
        async for event in events:
            await queue.put(ChoiceEvent(index, event))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the events are read
        await queue.put(_ChoiceEnd(error))
    else:
        await queue.put(_ChoiceEnd(None))
