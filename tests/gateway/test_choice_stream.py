"""Several answers as one stream: whenever its reader leaves and comes back, each event of
each answer is read once, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from appliance.errors import TimeIsUp
from appliance.gateway.choice_stream import ChoiceStream
from appliance.gateway.choices import ChoiceEvent
from appliance.protocol.events import Delta, Event, Finished, FinishReason, Started, Usage
from appliance.protocol.requests import GenerateRequest, TextPrompt

NUM_ANSWERS = 3
LETTERS = "abcd"
NUM_EVENTS = NUM_ANSWERS * (len(LETTERS) + 2)
USAGE = Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=1)


class ScriptedAnswers:
    """Answers by resume id, which come as fast as they are read."""

    def __init__(self) -> None:
        self.prompts: list[TextPrompt] = []
        self.forgotten: list[str] = []
        self._scripts: dict[str, Iterator[Event]] = {}

    @asynccontextmanager
    async def begin(
        self, request: GenerateRequest, _on_waiting: Callable[[], None]
    ) -> AsyncIterator[AsyncIterator[Event]]:
        events: list[Event] = [
            Started(1, 1),
            *[Delta(request_id=1, text=letter, num_tokens=1) for letter in LETTERS],
            Finished(request_id=1, reason=FinishReason.STOP, usage=USAGE),
        ]
        self._scripts[request.resume_id] = iter(events)
        async with self.resume(request) as answer:
            yield answer

    @asynccontextmanager
    async def resume(self, request: GenerateRequest) -> AsyncIterator[AsyncIterator[Event]]:
        assert isinstance(request.prompt, TextPrompt)
        self.prompts.append(request.prompt)
        yield self._play(request.resume_id)

    def forget(self, request: GenerateRequest) -> None:
        self.forgotten.append(request.resume_id)

    async def _play(self, resume_id: str) -> AsyncIterator[Event]:
        for event in self._scripts[resume_id]:
            yield event
            await asyncio.sleep(0)


def stream_of(answers: ScriptedAnswers, num_answers: int = NUM_ANSWERS) -> ChoiceStream:
    stream = ChoiceStream(answers, [GenerateRequest(prompt=TextPrompt("long"))] * num_answers)
    stream.keep("name")
    return stream


async def read(stream: ChoiceStream, num_events: int | None = None) -> list[ChoiceEvent]:
    got: list[ChoiceEvent] = []
    if num_events == 0:
        return got
    async with stream as happening:
        async for happened in happening:
            got.append(happened)
            if len(got) == num_events:
                await asyncio.sleep(0)  # whatever else is on its way has a turn
                await asyncio.sleep(0)
                break
    return got


def texts_of(got: list[ChoiceEvent]) -> list[str]:
    """Of each answer: its deltas, then a dot at its end."""
    texts = [""] * NUM_ANSWERS
    for index, event in ((happened.index, happened.event) for happened in got):
        texts[index] += {Started: "", Finished: "."}.get(type(event), getattr(event, "text", ""))
    return texts


@pytest.mark.parametrize("first", range(NUM_EVENTS))
async def test_every_event_is_read_once_and_in_order(first: int) -> None:
    for second in range(NUM_EVENTS - first):
        stream = stream_of(ScriptedAnswers())
        got = [*await read(stream, first), *await read(stream, second), *await read(stream)]
        assert len(got) == NUM_EVENTS
        assert texts_of(got) == [f"{LETTERS}."] * NUM_ANSWERS


async def test_what_is_held_meanwhile_has_no_prompt() -> None:
    answers = ScriptedAnswers()
    stream = stream_of(answers, 1)
    await read(stream, 2)
    await read(stream)
    assert answers.prompts == [TextPrompt("long"), TextPrompt("")]


async def test_only_what_was_interrupted_is_forgotten() -> None:
    answers = ScriptedAnswers()
    never, interrupted, ended = (stream_of(answers, 1) for _ in range(3))
    await read(interrupted, 2)
    await read(ended)
    for stream in (never, interrupted, ended):
        stream.forget()
    assert answers.forgotten == ["name.0"]


class LateAnswers(ScriptedAnswers):
    """The last one's turn does not come before the stream is left."""

    def __init__(self) -> None:
        super().__init__()
        self.has_turn = False

    @asynccontextmanager
    async def begin(
        self, request: GenerateRequest, on_waiting: Callable[[], None]
    ) -> AsyncIterator[AsyncIterator[Event]]:
        async with super().begin(request, on_waiting) as events:
            is_last = request.resume_id == f"name.{NUM_ANSWERS - 1}"
            yield events if self.has_turn or not is_last else self._wait(on_waiting)

    async def _wait(self, on_waiting: Callable[[], None]) -> AsyncIterator[Event]:
        on_waiting()
        await asyncio.get_running_loop().create_future()
        yield Started(1, 1)


async def test_an_answer_that_waits_for_its_turn_holds_up_none_and_begins_when_it_comes() -> None:
    answers = LateAnswers()
    stream = stream_of(answers)
    num_others = NUM_EVENTS // NUM_ANSWERS * (NUM_ANSWERS - 1)
    got = await read(stream, num_others)
    assert texts_of(got) == [*[f"{LETTERS}."] * (NUM_ANSWERS - 1), ""]
    answers.has_turn = True
    got += await read(stream)
    assert texts_of(got) == [f"{LETTERS}."] * NUM_ANSWERS
    assert answers.prompts == [TextPrompt("long")] * (NUM_ANSWERS + 1)


class DeafAnswers(ScriptedAnswers):
    """Each goes on, or fails, where it is cancelled for the first time."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self._fails = fails

    async def _play(self, resume_id: str) -> AsyncIterator[Event]:
        for event in self._scripts[resume_id]:
            yield event
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self._fails:
                    raise TimeIsUp("too late") from None


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("num_events", range(1, NUM_EVENTS))
async def test_leaving_ends_also_where_an_answer_loses_its_cancellation(
    num_events: int, fails: bool
) -> None:
    async def leave() -> None:
        async with stream_of(DeafAnswers(fails=fails)) as happening:
            for _ in range(num_events):
                await anext(happening)

    leaving = asyncio.create_task(leave())
    for _ in range(100):
        await asyncio.sleep(0)
    assert leaving.done()
    await leaving
