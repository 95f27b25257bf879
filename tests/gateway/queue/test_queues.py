"""Requests before a model: how many its worker is given, who waits and for how long, and
that each ends once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import ApplianceError, QueueFull, TimeIsUp
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.queue.deadline import ASKED_TIMEOUT_S
from appliance.gateway.queue.queues import QueueRules, Queues
from appliance.protocol.events import EmbedResult, Event
from appliance.protocol.model_info import ModelInfo
from appliance.protocol.requests import EmbedRequest, GenerateRequest, TextPrompt
from tests.api.scripted_client import INFO
from tests.gateway.fake_loader import FakeClock, settle
from tests.gateway.paced_client import ANSWER

AT_ONCE = 3  # one slot and two in front of it
ANN, BOB = Caller("ann"), Caller("bob")


class Worker:
    """Begins each request it is given, and ends one at the test's word."""

    def __init__(self, **info: int | str) -> None:
        known: dict[str, int | str] = {"slots": 1, "max_waiting_tokens": 1000, **info}
        self.info: ModelInfo | None = msgspec.structs.replace(INFO, **known)
        self.begun: list[int] = []  # by what `max_tokens` was asked for
        self.left: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.computed: dict[int, Callable[[], None]] = {}

    async def generate(
        self, request: GenerateRequest, on_computed: Callable[[], None]
    ) -> AsyncIterator[Event]:
        number = request.max_tokens or 0
        self.begun.append(number)
        self.computed[number] = on_computed
        gate = self.gates[number] = asyncio.Event()
        try:
            yield ANSWER[0]
            await gate.wait()
            yield ANSWER[-1]
        finally:
            self.left.append(number)

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody resolves it")


def asked(number: int, num_tokens: int = 1) -> GenerateRequest:
    return GenerateRequest(prompt=TextPrompt("x" * (4 * num_tokens - 4)), max_tokens=number)


class House:
    """One model's queue, and what became of each request by its number."""

    def __init__(self, worker: Worker, **rules: float | int) -> None:
        self.clock = FakeClock()
        self.worker = worker
        self.queues = Queues(QueueRules(**rules), self.clock)  # type: ignore[arg-type]
        self.ends: dict[int, list[str]] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def ask(self, caller: Caller, number: int, num_tokens: int = 1) -> None:
        self.ends[number] = []
        self.tasks[number] = asyncio.create_task(self._ask(caller, asked(number, num_tokens)))
        await settle()

    async def _ask(self, caller: Caller, request: GenerateRequest) -> None:
        ends = self.ends[request.max_tokens or 0]
        try:
            async with aclosing(
                self.queues.generate(caller, self.worker, request)  # type: ignore[arg-type]
            ) as events:
                async for _ in events:
                    pass
            ends.append("done")
        except ApplianceError as error:
            ends.append(error.code)
        except asyncio.CancelledError:
            ends.append("cancelled")

    async def let_end(self, number: int) -> None:
        self.worker.gates[number].set()
        await settle()

    @property
    def num_waiting(self) -> int:
        return self.queues.state(self.worker).num_waiting  # type: ignore[arg-type]


async def test_a_worker_is_given_what_it_can_use_and_the_rest_waits() -> None:
    house = House(Worker())
    for number in range(1, 6):
        await house.ask(ANN, number)
    assert house.worker.begun == [1, 2, 3]
    assert house.num_waiting == 2
    await house.let_end(2)
    assert house.worker.begun == [1, 2, 3, 4]
    for number in (1, 3, 4, 5):
        await house.let_end(number)
    assert house.ends == {number: ["done"] for number in range(1, 6)}
    assert house.num_waiting == 0
    assert not house.queues._lines  # of a model that nobody asks nothing is kept


async def test_callers_take_turns_and_who_yields_comes_last() -> None:
    house = House(Worker(max_waiting_tokens=10_000))
    for number in range(1, AT_ONCE + 1):
        await house.ask(ANN, number)
    await house.ask(Caller("batch", yields=True), 10)
    for number in (20, 21, 22):
        await house.ask(ANN, number, num_tokens=600)
    await house.ask(BOB, 30, num_tokens=100)
    for number in (1, 2, 3, 20, 30):
        await house.let_end(number)
    assert house.worker.begun == [1, 2, 3, 20, 30, 21, 22, 10]
    for task in house.tasks.values():
        task.cancel()


async def test_a_reader_who_is_slow_keeps_nobody_waiting() -> None:
    house = House(Worker())
    for number in range(1, AT_ONCE + 2):
        await house.ask(ANN, number)
    house.worker.computed[1]()  # its last events are there, and nobody reads them
    await settle()
    assert house.worker.begun == [1, 2, 3, 4]
    await house.let_end(1)
    await house.ask(ANN, 5)
    assert house.worker.begun == [1, 2, 3, 4]  # its turn ended once
    for task in house.tasks.values():
        task.cancel()


async def test_more_than_may_wait_is_refused_at_once_with_when_to_come_back() -> None:
    house = House(Worker(), max_waiting=8)
    for number in range(1, AT_ONCE + 8):
        await house.ask(ANN, number)
    await house.clock.advance(12.5)
    await house.ask(ANN, 50)
    assert house.ends[50] == ["queue_full"]  # seven eighths are the most that one may have
    await house.ask(BOB, 60)
    assert house.ends[60] == []
    await house.ask(BOB, 61)
    assert house.ends[61] == ["queue_full"]
    with pytest.raises(QueueFull) as raised:
        await anext(house.queues.generate(ANN, house.worker, asked(51)))  # type: ignore[arg-type]
    assert raised.value.retry_after_s == 13
    for task in house.tasks.values():
        task.cancel()


async def test_tokens_that_may_wait_are_bounded_and_one_request_always_may() -> None:
    house = House(Worker())
    for number in range(1, AT_ONCE + 1):
        await house.ask(ANN, number)
    await house.ask(ANN, 10, num_tokens=5000)
    assert house.num_waiting == 1
    await house.ask(BOB, 11)
    assert house.ends[11] == ["queue_full"]
    house.tasks[10].cancel()
    await settle()
    await house.ask(ANN, 12, num_tokens=870)
    await house.ask(ANN, 13, num_tokens=10)
    assert house.ends[13] == ["queue_full"]
    await house.ask(BOB, 14, num_tokens=10)
    assert house.num_waiting == 2
    for task in house.tasks.values():
        task.cancel()


async def test_a_model_that_is_not_loaded_keeps_its_own_line() -> None:
    worker = Worker()
    worker.info = None
    house = House(worker)
    for number in range(1, 8):
        await house.ask(ANN, number)
    assert worker.begun == [*range(1, 8)]
    for task in house.tasks.values():
        task.cancel()


async def test_time_is_up_at_work_and_the_next_has_its_turn() -> None:
    house = House(Worker(), request_timeout_s=5.0)
    await house.ask(ANN, 1)
    await house.clock.advance(3)
    for number in (2, 3, 4):
        await house.ask(ANN, number)
    await house.clock.advance(1.9)
    assert (house.ends[1], house.worker.begun) == ([], [1, 2, 3])
    await house.clock.advance(0.2)
    assert (house.ends[1], house.worker.left) == (["request_timeout"], [1])
    assert house.worker.begun == [1, 2, 3, 4]
    for task in house.tasks.values():
        task.cancel()


async def test_time_is_up_in_the_line() -> None:
    house = House(Worker())
    for number in range(1, AT_ONCE + 1):
        await house.ask(ANN, number)
    token = ASKED_TIMEOUT_S.set(2.0)
    await house.ask(ANN, 4)
    ASKED_TIMEOUT_S.reset(token)
    assert house.num_waiting == 1
    await house.clock.advance(2.1)
    assert (house.ends[4], house.num_waiting) == (["request_timeout"], 0)
    assert (house.worker.begun, house.worker.left) == ([1, 2, 3], [])
    for task in house.tasks.values():
        task.cancel()


async def test_a_client_may_ask_for_less_time_not_for_more() -> None:
    for asked_s, counted_s in ((2.0, 2.0), (9.0, 5.0)):
        house = House(Worker(), request_timeout_s=5.0)
        token = ASKED_TIMEOUT_S.set(asked_s)
        await house.ask(ANN, 1)
        ASKED_TIMEOUT_S.reset(token)
        await house.clock.advance(counted_s - 0.1)
        assert house.ends[1] == []
        await house.clock.advance(0.2)
        assert house.ends[1] == ["request_timeout"]


async def test_the_error_says_what_was_being_done() -> None:
    house = House(Worker(), request_timeout_s=5.0)
    answer = house.queues.generate(ANN, house.worker, asked(1))  # type: ignore[arg-type]
    assert await anext(answer) == ANSWER[0]
    await house.clock.advance(6)
    with pytest.raises(TimeIsUp, match=r"within 5 s .*: its prompt was waiting for a slot"):
        await anext(answer)
    assert house.worker.left == [1]


async def test_vectors_wait_and_end_likewise() -> None:
    house = House(Worker(pooling="mean"), request_timeout_s=5.0)
    vectors = asyncio.create_task(
        house.queues.embed(ANN, house.worker, EmbedRequest([TextPrompt("a")]))  # type: ignore[arg-type]
    )
    await settle()
    await house.clock.advance(6)
    with pytest.raises(TimeIsUp):
        await vectors


async def test_somebody_elses_cancelling_stays_a_cancelling() -> None:
    house = House(Worker(), request_timeout_s=5.0)
    await house.ask(ANN, 1)
    house.tasks[1].cancel()
    await settle()
    assert house.ends[1] == ["cancelled"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("aaelt"), st.integers(0, 4)), max_size=60))
def test_each_request_ends_once_and_no_turn_is_lost(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, int]]) -> None:
    house = House(Worker(), max_waiting=8, request_timeout_s=20.0)
    number = 0
    for what, which in steps:
        if what == "a":
            number += 1
            await house.ask(Caller("abcde"[which], yields=which == 4), number)
        elif what == "e" and (open_ := [n for n in house.worker.begun if not house.ends[n]]):
            await house.let_end(open_[which % len(open_)])
        elif what == "l" and (open_ := [n for n, ends in house.ends.items() if not ends]):
            house.tasks[open_[which % len(open_)]].cancel()
            await settle()
        elif what == "t":
            await house.clock.advance(7.0)
        num_open = len(house.worker.begun) - len(house.worker.left)
        assert num_open <= AT_ONCE
        assert house.num_waiting <= 8
        assert not house.num_waiting or num_open == AT_ONCE  # no slot is left empty
    await house.clock.advance(30.0)
    while left := [n for n in house.worker.begun if not house.ends[n]]:
        await house.let_end(left[0])  # of the caller that yields, whose time is not bounded
    assert all(len(ends) == 1 for ends in house.ends.values())
    assert sorted(house.worker.begun) == sorted(house.worker.left)
    assert not house.queues._lines
