"""Whatever happens in whatever order: the budget holds, no model is loaded twice, every
request ends as it should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from appliance.errors import LoadFailed, ModelUnavailable, WorkerLost
from appliance.gateway.managed_model import LoadState, WaitLimits
from appliance.gateway.manager import ModelManager, Terms
from appliance.gateway.room import Rules
from appliance.protocol.events import Event
from tests.gateway.fake_loader import ANSWER, FakeClock, FakeLoader, keeping, settle

TOTAL_BYTES = 10
SIZES = {"a": [6, 3], "b": [6], "c": [4, 2], "d": [10, 9, 1], "e": [1]}
NAMES = st.sampled_from(sorted(SIZES))
Asked = asyncio.Task[list[Event]]


class Machine(RuleBasedStateMachine):
    """Requests wait as long as it takes here, so each that is not cancelled has to be
    answered or told of a failure.
    """

    asked = Bundle("asked")

    @initialize(
        keep_alive_s=st.sampled_from([0.0, 30.0, float("inf")]), allows_smaller=st.booleans()
    )
    def begin(self, keep_alive_s: float, allows_smaller: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.loader = FakeLoader(SIZES, TOTAL_BYTES)
        rules = Rules(allows_smaller=allows_smaller, waiting=WaitLimits(wait_s=1e9))
        terms = [Terms(name, keep_alive_s) for name in SIZES]
        self.manager = ModelManager(terms, self.loader, TOTAL_BYTES, rules=rules, clock=self.clock)
        self.tasks: dict[Asked, str] = {}
        self.cancelled: set[Asked] = set()
        self.has_failed: set[str] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    async def answer(self, name: str, keep_alive_s: float | None) -> list[Event]:
        request = keeping(keep_alive_s)
        return [event async for event in self.manager.model(name).generate(request)]

    @rule(
        name=NAMES,
        keep_alive_s=st.sampled_from([None, None, 0.0, 20.0, float("inf")]),
        settles=st.booleans(),
        target=asked,
    )
    def ask(self, name: str, keep_alive_s: float | None, settles: bool) -> Asked:
        task = self.loop.create_task(self.answer(name, keep_alive_s))
        self.tasks[task] = name
        if settles:
            self.run(settle())
        return task

    @rule(task=consumes(asked))
    def go_away(self, task: Asked) -> None:
        self.cancelled.add(task)
        task.cancel()

    @rule(num_turns=st.integers(0, 8))
    def go_on_a_little(self, num_turns: int) -> None:
        async def turns() -> None:
            for _ in range(num_turns):
                await asyncio.sleep(0)

        self.run(turns())

    @rule(name=NAMES)
    def let_none_finish(self, name: str) -> None:
        self.loader.answer_gate(name).clear()

    @rule(name=NAMES)
    def let_all_finish(self, name: str) -> None:
        self.loader.answer_gate(name).set()
        self.run(settle())

    @rule(name=NAMES, opens=st.booleans())
    def load_slowly(self, name: str, opens: bool) -> None:
        gate = self.loader.load_gates[name]
        gate.set() if opens else gate.clear()

    @rule(opens=st.booleans())
    def stop_slowly(self, opens: bool) -> None:
        self.loader.stop_gate.set() if opens else self.loader.stop_gate.clear()

    @rule(name=NAMES)
    def fail_next_load(self, name: str) -> None:
        self.loader.load_errors[name] = LoadFailed("no such tensor")
        self.has_failed.add(name)

    @rule(name=NAMES)
    def lose_worker(self, name: str) -> None:
        worker = self.loader.running.get(name)
        if worker is not None and self.manager.model(name).state is LoadState.LOADED:
            worker.loss.set()
            self.has_failed.add(name)
            self.run(settle())

    @rule(seconds=st.sampled_from([1.0, 10.0, 40.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule()
    def unload_idle(self) -> None:
        self.loop.create_task(self._unload_idle())

    async def _unload_idle(self) -> None:
        await self.manager.unload_idle()

    @invariant()
    def nothing_happened_that_must_not(self) -> None:
        assert self.loader.faults == []
        assert self.manager.held_bytes <= TOTAL_BYTES
        assert self.loader.num_bytes <= self.manager.held_bytes

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loader.stop_gate.set()
        for name in SIZES:
            self.loader.load_gates[name].set()
            self.loader.answer_gate(name).set()
        self.run(settle())
        for _ in SIZES:  # each may have to wait for the patience of those before it
            self.run(self.clock.advance(11))
        try:
            for task, name in self.tasks.items():
                assert task.done(), (
                    f"a request for {name} waits for ever: {self.manager.model(name).report()}"
                )
                self._check_end(task, name)
            assert all(model.num_users == 0 for model in self.manager.models)
            self.nothing_happened_that_must_not()
        finally:
            self.run(self.manager.close())
            self.run(settle())
            assert self.loader.running == {}
            self.loop.close()

    def _check_end(self, task: Asked, name: str) -> None:
        if task.cancelled():
            assert task in self.cancelled
            return
        error = task.exception()
        if error is None:
            assert task.result() == ANSWER
        else:
            assert isinstance(error, ModelUnavailable | WorkerLost), error
            assert name in self.has_failed, f"{name} could have been served: {error}"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
