"""Who is loaded, who is unloaded for whom, who waits and for how long; with made-up
models and a made-up clock.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence

import pytest

from appliance.errors import (
    ApplianceError,
    LoadFailed,
    ModelLoading,
    ModelUnavailable,
    NothingFits,
    ShuttingDown,
)
from appliance.gateway.managed_model import LoadState, WaitLimits
from appliance.gateway.manager import ModelManager, Terms
from appliance.gateway.room import Rules
from appliance.protocol.events import Event
from appliance.protocol.health import WorkerState
from tests.gateway.fake_loader import ANSWER, FakeClock, FakeLoader, keeping, settle

PATIENCE_S = 10.0


class House:
    """Models of the given sizes under one budget."""

    def __init__(
        self,
        sizes: Mapping[str, int | Sequence[int]],
        total_bytes: int,
        *,
        keep_alive_s: float = math.inf,
        rules: Rules | None = None,
    ) -> None:
        listed = {name: [size] if isinstance(size, int) else size for name, size in sizes.items()}
        self.clock = FakeClock()
        self.loader = FakeLoader(listed, total_bytes)
        terms = [Terms(name, keep_alive_s) for name in sizes]
        self.manager = ModelManager(
            terms,
            self.loader,
            total_bytes,
            rules=rules or Rules(patience_s=PATIENCE_S),
            clock=self.clock,
        )

    async def answer(self, model_id: str, keep_alive_s: float | None = None) -> list[Event]:
        request = keeping(keep_alive_s)
        return [event async for event in self.manager.model(model_id).generate(request)]

    def ask(self, model_id: str, keep_alive_s: float | None = None) -> asyncio.Task[list[Event]]:
        return asyncio.create_task(self.answer(model_id, keep_alive_s))

    async def hold(self, model_id: str) -> asyncio.Task[list[Event]]:
        """A request that is being answered until the gate of its model is opened."""
        self.loader.answer_gate(model_id).clear()
        asked = self.ask(model_id)
        await settle()
        assert self.state(model_id) is LoadState.LOADED
        return asked

    def let_finish(self, model_id: str) -> None:
        self.loader.answer_gate(model_id).set()

    def state(self, model_id: str) -> LoadState:
        return self.manager.model(model_id).state

    @property
    def states(self) -> dict[str, str]:
        return {model.model_id: model.state.value for model in self.manager.models}


# --- loading --------------------------------------------------------------------------


async def test_a_model_is_loaded_by_its_first_request_and_once_for_all_that_come_meanwhile() -> (
    None
):
    house = House({"a": 4}, 10)
    house.loader.load_gates["a"].clear()
    asked = [house.ask("a") for _ in range(5)]
    await settle()
    assert house.manager.model("a").health().state is WorkerState.LOADING
    assert (house.manager.model("a").num_waiting, house.manager.held_bytes) == (5, 4)
    house.loader.load_gates["a"].set()
    assert await asyncio.gather(*asked) == [ANSWER] * 5
    assert house.loader.loads == [("a", 4)]


async def test_the_least_recently_used_idle_model_makes_room() -> None:
    house = House({"a": 4, "b": 4, "c": 4}, 10)
    for name in ("a", "b", "a"):
        assert await house.answer(name) == ANSWER
        await house.clock.advance(1)
    assert await house.answer("c") == ANSWER
    assert house.states == {"a": "loaded", "b": "unloaded", "c": "loaded"}


async def test_no_more_models_go_than_it_takes() -> None:
    house = House({"small": 1, "large": 6, "new": 6}, 10)
    for name in ("small", "large"):
        await house.answer(name)
        await house.clock.advance(1)
    await house.answer("new")
    assert house.states == {"small": "loaded", "large": "unloaded", "new": "loaded"}


async def test_a_model_in_use_stays_and_the_new_one_is_loaded_smaller_then_in_full_size_later() -> (
    None
):
    house = House({"a": 6, "b": [5, 3]}, 10)
    using = await house.hold("a")
    assert await house.answer("b") == ANSWER
    assert house.loader.loads == [("a", 6), ("b", 3)]
    report = house.manager.model("b").report()
    assert (report.is_reduced, report.predicted_bytes) == (True, 3)
    house.let_finish("a")
    await using
    assert await house.manager.unload_idle()  # b, which has been idle for longer
    assert await house.answer("b") == ANSWER
    assert house.loader.loads[2:] == [("b", 5)], "a was idle, and gave way"
    assert not house.manager.model("b").report().is_reduced


async def test_a_reduced_model_goes_as_soon_as_it_could_be_had_whole() -> None:
    house = House({"a": 6, "b": [5, 3]}, 10)
    using = await house.hold("a")
    await house.answer("b")
    assert house.states == {"a": "loaded", "b": "loaded"}
    house.loader.running["a"].loss.set()
    await settle()
    assert house.states == {"a": "failed", "b": "unloaded"}
    assert await house.answer("b") == ANSWER
    assert house.loader.loads[-1] == ("b", 5)
    using.cancel()


async def test_without_smaller_plans_a_model_waits_until_the_one_in_use_is_idle() -> None:
    house = House({"a": 6, "b": [5, 3]}, 10, rules=Rules(allows_smaller=False))
    using = await house.hold("a")
    asked = house.ask("b")
    await settle()
    assert (house.state("b"), house.manager.model("b").report().progress) == (
        LoadState.LOADING,
        "other models in use hold the memory that it needs",
    )
    house.let_finish("a")
    assert await using == ANSWER
    assert await asked == ANSWER
    assert house.loader.loads == [("a", 6), ("b", 5)]


async def test_what_fits_in_no_way_is_refused_with_the_numbers() -> None:
    house = House({"a": 6, "b": 30}, 10)
    await house.answer("a")
    with pytest.raises(
        ModelUnavailable,
        match="'b' cannot be loaded now: Nothing fits: 30 are needed, and there are 10",
    ):
        await house.answer("b")
    assert house.states == {"a": "loaded", "b": "failed"}, "nobody had to go for it"


# --- fairness -------------------------------------------------------------------------


async def test_a_model_that_is_wanted_gets_its_turn_although_another_is_used_without_pause() -> (
    None
):
    house = House({"a": 6, "b": 6}, 10)
    using = [await house.hold("a")]
    asked = house.ask("b")
    await settle()
    for _ in range(9):
        await house.clock.advance(1)
        using.append(await house.hold("a"))  # answered beside the others
    await house.clock.advance(1)
    assert house.state("a") is LoadState.UNLOADING
    late = house.ask("a")
    await settle()
    assert not late.done()
    assert not asked.done()
    house.let_finish("a")
    assert await asyncio.gather(*using) == [ANSWER] * 10
    assert await asked == ANSWER
    assert await late == ANSWER
    assert house.loader.loads == [("a", 6), ("b", 6), ("a", 6)]


async def test_who_has_waited_longest_is_not_overtaken_for_ever() -> None:
    """The large one needs all; the small ones come and go, and there is always one in use."""
    house = House({"large": 10, "s1": 4, "s2": 4, "s3": 4}, 10)
    using = {name: await house.hold(name) for name in ("s1", "s2")}
    asked = house.ask("large")
    await settle()
    house.let_finish("s1")
    await using["s1"]
    third = await house.hold("s3")  # overtakes, for the first ten seconds
    await house.clock.advance(PATIENCE_S)
    late = house.ask("s1")
    for name in ("s2", "s3"):
        house.let_finish(name)
    await asyncio.gather(using["s2"], third)
    assert await asked == ANSWER
    assert await late == ANSWER
    assert [name for name, _ in house.loader.loads] == ["s1", "s2", "s3", "large", "s1"]


@pytest.mark.parametrize("goes_away", [False, True])
async def test_while_the_next_one_waits_for_a_load_nobody_else_is_let_in(goes_away: bool) -> None:
    house = House({"large": 10, "s1": 4, "s2": 4, "s3": 2}, 10)
    house.loader.load_gates["s2"].clear()
    using, loading = await house.hold("s1"), house.ask("s2")
    await settle()
    large = house.ask("large")
    await settle()
    await house.clock.advance(PATIENCE_S)
    late = house.ask("s3")
    await settle()
    assert house.states == {"large": "loading", "s1": "loaded", "s2": "loading", "s3": "loading"}
    assert house.manager.held_bytes == 8
    if goes_away:
        large.cancel()
        await settle()
        assert house.states == {
            "large": "unloaded",
            "s1": "loaded",
            "s2": "loading",
            "s3": "loaded",
        }
    house.loader.load_gates["s2"].set()
    house.let_finish("s1")
    assert await asyncio.gather(using, loading, late) == [ANSWER] * 3
    assert goes_away or await large == ANSWER
    assert [name for name, _ in house.loader.loads] == [
        "s1",
        "s2",
        *([] if goes_away else ["large"]),
        "s3",
    ]


async def test_room_that_was_made_for_one_is_taken_by_no_other() -> None:
    house = House({"old": 8, "large": 8, "small": 3}, 10)
    await house.answer("old")
    house.loader.stop_gate.clear()
    large = house.ask("large")
    await settle()
    small = house.ask("small")
    await settle()
    house.loader.stop_gate.set()
    assert await large == ANSWER
    assert await small == ANSWER
    assert [name for name, _ in house.loader.loads] == ["old", "large", "small"]


# --- bounds on waiting ----------------------------------------------------------------


async def test_so_many_requests_may_wait_and_so_long() -> None:
    house = House({"a": 4}, 10, rules=Rules(waiting=WaitLimits(max_waiting=2, wait_s=30)))
    house.loader.load_gates["a"].clear()
    asked = [house.ask("a") for _ in range(2)]
    await settle()
    asked.append(house.ask("a"))
    with pytest.raises(
        ModelLoading,
        match=r"not loaded yet \(it is being loaded\), and 2 requests wait for it already",
    ):
        await asked[2]
    await house.clock.advance(30)
    for each in asked[:2]:
        with pytest.raises(ModelLoading, match="'a' was not loaded within 30 s") as raised:
            await each
    assert (raised.value.status, raised.value.code, raised.value.retry_after_s) == (
        503,
        "model_loading",
        10,
    )
    house.loader.load_gates["a"].set()
    await settle()
    assert house.state("a") is LoadState.LOADED, "what nobody waits for any more may finish"


async def test_a_client_that_goes_away_leaves_no_trace() -> None:
    house = House({"a": 6, "b": 6}, 10)
    using = await house.hold("a")
    asked = house.ask("b")
    await settle()
    asked.cancel()
    await settle()
    assert house.states == {"a": "loaded", "b": "unloaded"}
    await house.clock.advance(PATIENCE_S)
    assert house.states == {"a": "loaded", "b": "unloaded"}, "nobody waits, so nobody has to go"
    house.let_finish("a")
    assert await using == ANSWER


async def test_a_client_that_goes_away_just_when_its_model_is_loaded_does_not_hold_it() -> None:
    house = House({"a": 6, "b": 6}, 10)
    house.loader.load_gates["a"].clear()
    asked = house.ask("a")
    await settle()
    house.loader.load_gates["a"].set()
    while house.state("a") is not LoadState.LOADED:
        await asyncio.sleep(0)
    asked.cancel()
    await settle()
    assert house.manager.model("a").num_users == 0
    assert await house.answer("b") == ANSWER


# --- keeping alive --------------------------------------------------------------------


async def test_an_unused_model_goes_after_its_time_and_comes_again() -> None:
    house = House({"a": 4}, 10, keep_alive_s=60)
    await house.answer("a")
    await house.clock.advance(59)
    await house.answer("a")
    await house.clock.advance(59)
    assert house.manager.model("a").report().unload_in_s == 1
    await house.clock.advance(1)
    assert (house.state("a"), house.loader.num_bytes) == (LoadState.UNLOADED, 0)
    assert house.manager.model("a").health().state is WorkerState.UNLOADED
    assert await house.answer("a") == ANSWER


async def test_nothing_is_left_of_a_model_that_came_and_went() -> None:
    house = House({"a": 4}, 10, keep_alive_s=0)
    for _ in range(3):
        await house.answer("a")
        await settle()
    assert [
        task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()
    ] == []


async def test_kept_for_no_time_a_model_goes_with_its_last_request() -> None:
    house = House({"a": 4}, 10, keep_alive_s=0)
    using = await house.hold("a")
    other = house.ask("a")
    house.let_finish("a")
    assert await asyncio.gather(using, other) == [ANSWER, ANSWER]
    await settle()
    assert house.states == {"a": "unloaded"}
    assert house.loader.loads == [("a", 4)]


async def test_a_request_says_how_long_its_model_stays_until_another_one_does() -> None:
    house = House({"a": 4}, 10, keep_alive_s=60)
    await house.answer("a", 300)
    await house.answer("a")
    await house.clock.advance(299)
    report = house.manager.model("a").report()
    assert (report.state, report.keep_alive_s, report.unload_in_s) == (LoadState.LOADED, 300, 1)
    await house.answer("a", 5)
    await house.clock.advance(5)
    assert house.states == {"a": "unloaded"}
    await house.answer("a")
    await house.clock.advance(59)
    assert house.manager.model("a").report().unload_in_s == 1, "what was said was for that stay"


async def test_a_model_is_kept_for_ever_or_unloaded_after_the_answer() -> None:
    house = House({"a": 4, "b": 4}, 10, keep_alive_s=60)
    await house.answer("a", math.inf)
    await house.answer("b", 0)
    await settle()
    assert house.states == {"a": "loaded", "b": "unloaded"}
    await house.clock.advance(1e9)
    assert house.states == {"a": "loaded", "b": "unloaded"}
    assert house.manager.model("a").report().unload_in_s is None


async def test_a_model_to_be_unloaded_finishes_its_other_answers() -> None:
    house = House({"a": 4}, 10, keep_alive_s=60)
    using = await house.hold("a")
    last = house.ask("a", 0)
    await settle()
    assert house.states == {"a": "loaded"}
    house.let_finish("a")
    assert await asyncio.gather(using, last) == [ANSWER, ANSWER]
    await settle()
    assert house.states == {"a": "unloaded"}


async def test_a_request_that_comes_while_its_model_is_unloaded_has_it_loaded_again() -> None:
    house = House({"a": 4}, 10, keep_alive_s=0)
    house.loader.stop_gate.clear()
    await house.answer("a")
    again = house.ask("a")
    await settle()
    assert (house.state("a"), again.done()) == (LoadState.UNLOADING, False)
    house.loader.stop_gate.set()
    assert await again == ANSWER
    assert house.loader.loads == [("a", 4), ("a", 4)]


async def test_under_pressure_idle_models_go_the_least_recently_used_first() -> None:
    house = House({"a": 4, "b": 4}, 10)
    for name in ("b", "a"):
        await house.answer(name)
        await house.clock.advance(1)
    using = await house.hold("a")
    assert await house.manager.unload_idle() is True
    assert house.states == {"a": "loaded", "b": "unloaded"}
    assert await house.manager.unload_idle() is False
    house.let_finish("a")
    await using


# --- failing --------------------------------------------------------------------------


async def test_a_load_that_fails_tells_all_who_wait_and_is_tried_again_after_a_pause() -> None:
    house = House({"a": 4}, 10)
    house.loader.load_gates["a"].clear()
    house.loader.load_errors["a"] = LoadFailed("no such tensor")
    asked = [house.ask("a"), house.ask("a")]
    await settle()
    house.loader.load_gates["a"].set()
    for each in asked:
        with pytest.raises(
            ModelUnavailable, match="'a' cannot be loaded now: no such tensor"
        ) as raised:
            await each
    assert (raised.value.status, raised.value.retry_after_s) == (503, 5)
    await house.clock.advance(4)
    with pytest.raises(ModelUnavailable) as raised:
        await house.answer("a")
    assert (raised.value.retry_after_s, house.loader.loads) == (1, [("a", 4)]), (
        "told at once, without another try"
    )
    await house.clock.advance(1)
    assert await house.answer("a") == ANSWER
    assert house.manager.model("a").report().error is None


async def test_what_nobody_foresaw_ends_the_wait_too_and_leaves_no_process() -> None:
    house = House({"a": 4}, 10)
    house.loader.load_errors["a"] = ValueError("no such thing")
    with pytest.raises(ModelUnavailable, match="Unexpected error: no such thing"):
        await house.answer("a")
    assert (house.loader.running, house.manager.held_bytes) == ({}, 0)


async def test_the_pause_grows_with_each_failure() -> None:
    house = House({"a": 4}, 10)
    for pause_s in (5, 10, 20):
        house.loader.load_errors["a"] = LoadFailed("no such tensor")
        with pytest.raises(ModelUnavailable) as raised:
            await house.answer("a")
        assert raised.value.retry_after_s == pause_s
        await house.clock.advance(pause_s)
    await house.answer("a")
    await house.manager.unload_idle()
    house.loader.load_errors["a"] = LoadFailed("no such tensor")
    with pytest.raises(ModelUnavailable) as raised:
        await house.answer("a")
    assert raised.value.retry_after_s == 5, "after a success it begins anew"


async def test_a_worker_that_is_given_up_is_one_models_end_only() -> None:
    house = House({"a": 4, "b": 4}, 10)
    await house.answer("a")
    await house.answer("b")
    house.loader.running["a"].loss.set()
    await settle()
    assert house.states == {"a": "failed", "b": "loaded"}
    assert house.manager.held_bytes == 4
    health = house.manager.model("a").health()
    assert (health.state, health.last_error) == (
        WorkerState.FAILED,
        "The model is no longer served: killed by SIGKILL.",
    )
    await house.clock.advance(5)
    assert await house.answer("a") == ANSWER


async def test_the_end_of_the_only_model_is_raised() -> None:
    house = House({"a": 4}, 10)
    await house.answer("a")
    waiting = asyncio.create_task(house.manager.failed())
    house.loader.running["a"].loss.set()
    with pytest.raises(ApplianceError, match="no longer served"):
        await waiting


# --- start and end --------------------------------------------------------------------


async def test_models_are_loaded_at_the_start_as_far_as_they_fit() -> None:
    house = House({"a": 4, "b": [8, 2], "c": 4}, 10)
    house.loader.load_gates["a"].clear()
    preloading = asyncio.create_task(house.manager.preload(["a", "b", "c"]))
    await settle()
    assert house.manager.model("a").health().state is WorkerState.STARTING
    house.loader.load_gates["a"].set()
    await preloading
    assert house.states == {"a": "loaded", "b": "unloaded", "c": "loaded"}


async def test_a_request_during_the_start_waits_for_it_or_has_its_model_loaded_after_all() -> None:
    house = House({"a": 8, "b": 8}, 10)
    house.loader.prepare_gate.clear()
    preloading = asyncio.create_task(house.manager.preload(["a", "b"]))
    asked = [house.ask("a"), house.ask("b")]
    await settle()
    house.loader.prepare_gate.set()
    assert await asyncio.gather(*asked) == [ANSWER] * 2
    await preloading
    assert sorted(name for name, _ in house.loader.loads) == ["a", "b"]


async def test_the_only_model_says_why_it_cannot_be_loaded_at_the_start() -> None:
    with pytest.raises(NothingFits):
        await House({"a": 30}, 10).manager.preload(["a"])
    house = House({"a": 30, "b": 3}, 10)
    await house.manager.preload(["a", "b"])
    assert house.states == {"a": "failed", "b": "loaded"}


async def test_the_end_comes_in_every_state() -> None:
    house = House({"a": 3, "b": 3, "c": 3, "d": 9}, 10)
    house.loader.load_gates["b"].clear()
    using = await house.hold("a")
    waiting = [house.ask("b"), house.ask("d")]
    await settle()
    assert house.states == {"a": "loaded", "b": "loading", "c": "unloaded", "d": "loading"}
    await house.manager.close()
    assert house.loader.running == {}
    for each in waiting:
        with pytest.raises(ShuttingDown):
            await each
    with pytest.raises(ShuttingDown):
        await house.answer("c")
    using.cancel()
    await asyncio.gather(using, return_exceptions=True)
