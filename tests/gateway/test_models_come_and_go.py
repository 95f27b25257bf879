"""Models that are added and removed while others are served, and the names of all."""

from __future__ import annotations

import asyncio

import pytest

from appliance.errors import BadSettings, ModelNotFound
from appliance.gateway.managed_model import LoadState
from appliance.gateway.manager import Terms
from appliance.gateway.router import Router, ServedModel
from tests.api.scripted_client import ScriptedClient
from tests.gateway.fake_loader import ANSWER, settle
from tests.gateway.house import House


async def test_a_model_that_came_later_is_loaded_in_the_place_of_others() -> None:
    house = House({"a": 6}, 10)
    await house.answer("a")
    house.loader.sizes = {"a": [6], "b": [6]}
    house.manager.add(Terms("b", 60))
    assert await house.answer("b") == ANSWER
    assert house.states == {"a": "unloaded", "b": "loaded"}
    assert await house.answer("a") == ANSWER
    assert house.states == {"a": "loaded", "b": "unloaded"}
    assert house.loader.faults == []


async def test_a_model_is_removed_once_nobody_uses_it() -> None:
    house = House({"a": 4, "b": 4}, 10)
    using = await house.hold("a")
    removing = asyncio.create_task(house.manager.remove("a"))
    await settle()
    assert house.states["a"] == "unloading"
    house.let_finish("a")
    assert await using == ANSWER
    await removing
    assert (house.states, house.loader.num_bytes) == ({"b": "unloaded"}, 0)


async def test_a_model_that_is_not_loaded_is_removed_at_once() -> None:
    house = House({"a": 4}, 10)
    await house.manager.remove("a")
    assert house.states == {}


async def test_a_model_that_is_being_loaded_is_removed_afterwards() -> None:
    house = House({"a": 4}, 10)
    house.loader.load_gates["a"].clear()
    asked = house.ask("a")
    await settle()
    removing = asyncio.create_task(house.manager.remove("a"))
    await settle()
    assert house.state("a") is LoadState.LOADING
    house.loader.load_gates["a"].set()
    assert await asked == ANSWER
    await removing
    assert house.loader.running == {}


async def test_a_model_is_loaded_without_a_request_and_unloaded() -> None:
    house = House({"a": 4}, 10, keep_alive_s=60)
    model = house.manager.model("a")
    await model.stay(0)
    assert house.loader.loads == []
    await model.stay(90)
    assert (house.state("a"), model.report().unload_in_s) == (LoadState.LOADED, 90)
    await model.stay(None)
    assert model.report().unload_in_s == 90
    await model.stay(0)
    await settle()
    assert house.state("a") is LoadState.UNLOADED


def served(name: str, *aliases: str) -> ServedModel:
    return ServedModel(id=name, client=ScriptedClient(), created=1, aliases=aliases)


def test_names_come_and_go_with_their_models() -> None:
    first, second = served("a"), served("b", "c")
    router = Router([first])
    router.add(second)
    assert router.models == (first, second)
    assert router.resolve("c") is second
    with pytest.raises(BadSettings, match="Another model is called 'c' already"):
        router.add(served("d", "c"))
    assert router.find("d") is None
    router.remove(first)
    assert router.resolve(None) is second
    router.remove(second)
    assert (router.models, router.find("c")) == ((), None)
    with pytest.raises(ModelNotFound, match="There is no model here any more"):
        router.resolve(None)
