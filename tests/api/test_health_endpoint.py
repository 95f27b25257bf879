"""GET /health: its status code, and that it waits for nobody."""

from __future__ import annotations

import asyncio

import pytest

from appliance.worker.client import WorkerState
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around


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


@pytest.mark.parametrize("state", [WorkerState.STARTING, WorkerState.RESTARTING, WorkerState.FAILED])
async def test_not_ready_is_503_with_the_reason(state: WorkerState) -> None:
    async with http_around(ScriptedClient(state=state, last_error="killed by signal 9")) as http:
        response = await http.get("/health")
    assert response.status_code == 503
    body = response.json()
    assert (body["status"], body["reason"]) == (state.value, f"novels is {state.value}: killed by signal 9")
