"""What had said nothing when its worker died goes on with the next one, once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from appliance.errors import ApplianceError, BadRequest, ModelNotReady, WorkerLost
from appliance.protocol.events import AskResult, Delta, Message, Started
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash
from appliance.worker.deaths import Deaths
from appliance.worker.frames import Submit
from appliance.worker.patience import Patience
from appliance.worker.second_try import tried_again_once
from appliance.worker.supervisor import Supervisor
from tests.worker.running import ENDLESS, config, running, text, worker_pid

__all__ = ["config"]  # a fixture

LOST = WorkerLost("gone")
STARTED, IT = Started(1, 5), Delta(request_id=1, text="It", num_tokens=1)


async def said_by(*attempts: Sequence[Message | Exception]) -> list[Message | str]:
    """The events that are read of the attempts, and the error that ends them."""
    left = list(attempts)

    async def attempt() -> AsyncGenerator[Message, None]:
        for event in left.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event

    said: list[Message | str] = []
    try:
        async for event in tried_again_once(attempt):
            said.append(event)
    except ApplianceError as error:
        said.append(error.message)
    return said + [str(attempt) for attempt in left]


@pytest.mark.parametrize("before", [(LOST,), (STARTED, LOST)], ids=["unseen", "started"])
async def test_nothing_is_seen_of_the_first_attempt(before: Sequence[Message | Exception]) -> None:
    assert await said_by(before, (STARTED, IT)) == [STARTED, IT]
    assert await said_by(before, (AskResult(1),)) == [
        *(event for event in before if isinstance(event, Started)),
        AskResult(1),
    ]


async def test_without_another_worker_the_first_ones_end_is_the_answer() -> None:
    assert await said_by((LOST,), (ModelNotReady("none"),)) == ["gone"]
    assert await said_by((ModelNotReady("none"),)) == ["none"]


async def test_there_is_no_third() -> None:
    assert await said_by((STARTED, LOST), (LOST,)) == [STARTED, "gone"]


async def test_what_was_said_is_not_said_again_and_other_errors_are_final() -> None:
    assert await said_by((STARTED, IT, LOST)) == [STARTED, IT, "gone"]
    assert await said_by((BadRequest("no"),)) == ["no"]


async def test_suspects_are_tried_one_at_a_time_until_their_first_token() -> None:
    deaths = Deaths(Patience())
    one, other, new = (Submit(number, text(f"{number}")) for number in (1, 2, 3))
    for sent in (one, other):
        deaths.take_up(sent)
    deaths.note(Crash(-signal.SIGSEGV, was_ready=True))

    async with deaths.turn(one) as turn, deaths.turn(new):
        waiting = asyncio.create_task(deaths.turn(other).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
        turn.end()
        turn.end()
        (await waiting).end()


async def test_who_leaves_while_it_waits_for_its_turn_holds_nobody_up() -> None:
    deaths = Deaths(Patience())
    one, other = (Submit(number, text(f"{number}")) for number in (1, 2))
    for sent in (one, other):
        deaths.take_up(sent)
    deaths.note(Crash(-signal.SIGSEGV, was_ready=True))

    async with deaths.turn(one):
        waiting = asyncio.create_task(deaths.turn(other).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with deaths.turn(other):
        pass


async def test_of_a_real_worker_the_queued_request_is_answered_and_those_in_mid_stream_are_told(
    config: WorkerConfig,
) -> None:
    async with running(config) as supervisor:
        slots = [asyncio.create_task(outcome(supervisor, at)) for at in range(config.sizes.slots)]
        while not all(task.get_name() == "begun" for task in slots):
            await asyncio.sleep(0)
        queued = asyncio.create_task(outcome(supervisor, 9, max_tokens=4))
        while supervisor.health().heartbeat is None:
            await asyncio.sleep(0)
        os.kill(worker_pid(supervisor), signal.SIGSEGV)
        assert await asyncio.gather(*slots) == ["worker_lost"] * len(slots)
        assert await queued == "4 tokens"
        assert supervisor.health().num_restarts == 1


async def outcome(supervisor: Supervisor, number: int, max_tokens: int = 400) -> str:
    """Of one answer; the task's name says when its first token was there."""
    num_tokens = 0
    request = text(f"{number} It was", ENDLESS, max_tokens=max_tokens)
    try:
        async with aclosing(supervisor.generate(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    num_tokens += event.num_tokens
                    if (task := asyncio.current_task()) is not None:
                        task.set_name("begun")
    except WorkerLost as error:
        return error.code
    return f"{num_tokens} tokens"
