"""Who is loaded, who is unloaded for whom, who waits and for how long; with made-up
models and a made-up clock.
"""

from __future__ import annotations

import asyncio

import pytest

from appliance.errors import ModelLoading, ModelUnavailable
from appliance.gateway.managed_model import LoadState, WaitLimits
from appliance.gateway.room import Rules
from appliance.protocol.health import WorkerState
from tests.gateway.fake_loader import ANSWER, settle
from tests.gateway.house import PATIENCE_S, House

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
    """The large one needs all;
    the small ones come and go, and there is always one in use.
    """
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
