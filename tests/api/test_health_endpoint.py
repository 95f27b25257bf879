"""GET /health: its status code, and that it waits for nobody."""

from __future__ import annotations

import asyncio

import pytest

from appliance.api.app import create_app
from appliance.protocol.health import WorkerState
from tests.api.scripted_client import (
    ANSWER,
    ScriptedClient,
    gateway_around,
    http_around,
    http_to,
)


async def test_ready_is_200_also_while_a_request_runs() -> None:
    client = ScriptedClient(*ANSWER[:1], asyncio.Event())
    async with http_around(client) as http:
        running = asyncio.create_task(http.post("/v1/completions", json={"prompt": "Once"}))
        await client.reached_wait.wait()
        response = await http.get("/health")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert response.status_code == 200
    body = response.json()
    assert (body["status"], body["reason"], body["num_requests"]) == ("ok", None, 1)
    assert body["models"][0]["quantization"] == "Q8_0"
    assert client.closed.is_set()


async def test_a_worker_that_has_gone_silent_is_stalled_until_it_speaks_again() -> None:
    client = ScriptedClient()
    async with http_around(client) as http:
        for age_s, status, code in ((4.9, "ok", 200), (5.1, "stalled", 503), (0.2, "ok", 200)):
            client.heartbeat_age_s = age_s
            response = await http.get("/health")
            assert (response.status_code, response.json()["status"]) == (code, status)


async def test_without_models_the_server_is_well_and_nothing_fails() -> None:
    gateway = gateway_around(ScriptedClient())
    gateway.router.remove(gateway.router.models[0])
    app = create_app(gateway)
    async with http_to(app) as http:
        response = await http.get("/health")
        assert (response.status_code, response.json()["status"]) == (200, "ok")
        assert response.json()["reason"] == "There is no model here any more: pull or create one."
        gets = [path for path, methods in app.openapi()["paths"].items() if "get" in methods]
        statuses = {path: (await http.get(path)).status_code for path in gets}
    assert {"/api/tags", "/v1/models", "/ps", "/props", "/metrics"} <= statuses.keys()
    assert {path: status for path, status in statuses.items() if status >= 500} == {}


@pytest.mark.parametrize(
    "state", [WorkerState.STARTING, WorkerState.RESTARTING, WorkerState.FAILED]
)
async def test_not_ready_is_503_with_the_reason(state: WorkerState) -> None:
    async with http_around(ScriptedClient(state=state, last_error="killed by signal 9")) as http:
        response = await http.get("/health")
    assert response.status_code == 503
    body = response.json()
    assert (body["status"], body["reason"]) == (
        state.value,
        f"novels is {state.value}: killed by signal 9",
    )
