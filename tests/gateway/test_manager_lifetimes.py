"""How long a model stays loaded, what follows from a failure, and the manager's start
and end; with made-up models and a made-up clock.
"""

from __future__ import annotations

import asyncio
import math

import pytest

from appliance.errors import (
    ApplianceError,
    LoadFailed,
    ModelUnavailable,
    NothingFits,
    ShuttingDown,
)
from appliance.gateway.managed_model import LoadState
from appliance.protocol.health import WorkerState
from tests.gateway.fake_loader import ANSWER, settle
from tests.gateway.house import House

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


async def test_a_model_that_lost_a_helper_is_loaded_anew_at_once() -> None:
    house = House({"a": 4}, 10)
    await house.answer("a")
    lost = house.loader.running["a"]
    lost.loses_helper = True
    lost.loss.set()
    await settle()
    assert house.states == {"a": "loaded"}
    assert house.loader.running["a"] is not lost
    assert house.manager.held_bytes == 4
    assert await house.answer("a") == ANSWER


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
