"""Which model answers, what draining refuses,
what is counted, and what /health shows.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from appliance.errors import BadSettings, ModelNotFound, QueueFull, ShuttingDown
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import ANONYMOUS
from appliance.gateway.adapters import ModelAdapters, ServedAdapter
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router
from appliance.protocol.adapters import AdapterKind
from appliance.protocol.health import WorkerState
from tests.gateway.paced_client import ANSWER, REQUEST, PacedClient, gateway_of, served

# --- router ---------------------------------------------------------------------------


async def test_a_model_answers_to_its_id_and_aliases_and_the_first_one_to_no_name() -> None:
    novels, verse = (
        served("novels", PacedClient(), "default"),
        served("org/verse", PacedClient(), "poet"),
    )
    router = Router([novels, verse])
    assert [router.resolve(name) for name in ("novels", "default", "org/verse", "poet", None)] == [
        novels,
        novels,
        verse,
        verse,
        novels,
    ]


async def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    router = Router([served("novels", PacedClient(), "default")])
    with pytest.raises(
        ModelNotFound, match=r"'gpt-9' is not served here. Served: 'novels', 'default'\."
    ) as raised:
        router.resolve("gpt-9")
    assert raised.value.param == "model"
    with pytest.raises(ModelNotFound) as raised:
        router.resolve("x" * 100_000)
    assert len(raised.value.message) < 300


def test_names_must_be_there_and_differ() -> None:
    with pytest.raises(BadSettings, match="no model"):
        Router([])
    with pytest.raises(BadSettings, match="share the name 'novels'"):
        Router([served("novels", PacedClient()), served("verse", PacedClient(), "novels")])
    with pytest.raises(BadSettings, match="needs a name"):
        Router([served("", PacedClient())])


def test_no_model_has_the_name_of_another_with_an_adapter() -> None:
    adapters = ModelAdapters([ServedAdapter(name="one", kind=AdapterKind.LORA, scale=1.0)])
    base = replace(served("tale", PacedClient()), adapters=adapters)
    other = served("verse", PacedClient(), "tale:one")
    with pytest.raises(BadSettings, match="'tale:one' is both a served model's name and that of"):
        Router([base, other])
    router = Router([base])
    with pytest.raises(BadSettings, match="Another model is called 'tale:one' already"):
        router.add(other)
    assert router.resolve("tale:one").adapter == "one"
    router = Router([other])
    with pytest.raises(BadSettings, match="Change the --alias, or the adapter's name"):
        router.add(base)
    assert router.models == (other,)


# --- requests in flight ---------------------------------------------------------------


async def test_draining_lets_requests_in_flight_finish_and_refuses_new_ones() -> None:
    client = PacedClient()
    gateway, model = gateway_of(client)
    async with gateway.generate(ANONYMOUS, model, REQUEST) as events:
        client.go_on.release()
        received = [await anext(events)]
        drained = asyncio.create_task(gateway.drain(limit_s=60))
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            async with gateway.generate(ANONYMOUS, model, REQUEST):
                pass
        assert gateway.health()["status"] == "draining"
        assert gateway.num_requests == 1
        client.go_on.release()
        client.go_on.release()
        received += [event async for event in events]
    assert received == ANSWER
    assert await drained is True
    assert gateway.num_requests == 0


async def test_draining_gives_up_at_its_limit() -> None:
    gateway, model = gateway_of(PacedClient())
    assert await gateway.drain(limit_s=0) is True
    gateway, model = gateway_of(PacedClient())
    async with gateway.generate(ANONYMOUS, model, REQUEST):
        assert await gateway.drain(limit_s=0) is False


async def test_leaving_early_closes_the_clients_iterator() -> None:
    client = PacedClient()
    gateway, model = gateway_of(client)
    async with gateway.generate(ANONYMOUS, model, REQUEST) as events:
        client.go_on.release()
        await anext(events)
        assert client.num_open == 1
    assert client.num_open == 0
    assert gateway.num_requests == 0


async def test_requests_in_flight_are_bounded() -> None:
    gateway, model = gateway_of(PacedClient(), max_requests=1)
    async with gateway.generate(ANONYMOUS, model, REQUEST):
        with pytest.raises(QueueFull, match="1 requests are in flight"):
            async with gateway.generate(ANONYMOUS, model, REQUEST):
                pass
    async with gateway.generate(ANONYMOUS, model, REQUEST):
        assert gateway.num_requests == 1


# --- health ---------------------------------------------------------------------------


async def test_health_of_a_ready_model() -> None:
    gateway, _ = gateway_of(PacedClient())
    assert gateway.health() == {
        "status": "ok",
        "reason": None,
        "num_requests": 0,
        "models": [
            {
                "id": "novels",
                "state": "ready",
                "pid": 4711,
                "num_restarts": 2,
                "last_error": None,
                "heartbeat_age_s": 0.25,
                "num_running": 1,
                "num_waiting": 0,
                "num_steps": 7,
                "num_used_cells": 40,
                "step_age_s": 0.5,
                "tokenize_age_s": 0.0,
            }
        ],
    }


@pytest.mark.parametrize(
    ("state", "last_error", "reason"),
    [
        (WorkerState.STARTING, None, "novels is starting."),
        (WorkerState.RESTARTING, "killed by signal 9", "novels is restarting: killed by signal 9"),
        (WorkerState.FAILED, "no such file", "novels is failed: no such file"),
    ],
)
async def test_health_says_why_it_is_not_ready(
    state: WorkerState, last_error: str | None, reason: str
) -> None:
    gateway, _ = gateway_of(PacedClient(state, last_error))
    health = gateway.health()
    assert (health["status"], health["reason"]) == (state.value, reason)


@pytest.mark.parametrize(
    ("states", "status", "reason"),
    [
        ((WorkerState.READY, WorkerState.UNLOADED), "ok", None),
        ((WorkerState.UNLOADED, WorkerState.UNLOADED), "ok", None),
        ((WorkerState.LOADING, WorkerState.UNLOADED), "ok", None),
        ((WorkerState.STARTING, WorkerState.UNLOADED), "starting", "novels is starting."),
        ((WorkerState.READY, WorkerState.FAILED), "ok", "verse is failed."),
        (
            (WorkerState.RESTARTING, WorkerState.FAILED),
            "restarting",
            "novels is restarting. verse is failed.",
        ),
    ],
)
async def test_one_of_several_models_may_be_absent_or_down(
    states: tuple[WorkerState, WorkerState], status: str, reason: str | None
) -> None:
    models = [
        served(name, PacedClient(state))
        for name, state in zip(("novels", "verse"), states, strict=True)
    ]
    health = Gateway(Router(models), Admission()).health()
    assert (health["status"], health["reason"]) == (status, reason)
