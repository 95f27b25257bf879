"""GET /metrics: Prometheus' text format, behind the key like everything else."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import Response

from appliance.api.app import create_app
from appliance.api.format_router import FormatRouter
from tests.api.scripted_client import (
    ANSWER,
    INFO,
    ScriptedClient,
    gateway_around,
    http_around,
    http_to,
)


async def test_what_was_served_is_counted() -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        await http.post("/v1/completions", json={"prompt": "Once", "n": 2})
        response = await http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (
        'appliance_requests_total{model="novels",outcome="stop"} 2.0' in response.text.splitlines()
    )


async def test_it_needs_a_key_where_the_server_does() -> None:
    app = create_app(gateway_around(ScriptedClient(), keys=["secret"]))
    async with http_to(app) as http:
        assert (await http.get("/metrics")).status_code == 401
    async with http_to(app, authorization="Bearer secret") as http:
        assert (await http.get("/metrics")).status_code == 200


async def test_those_that_wait_for_their_turn_are_counted() -> None:
    end = asyncio.Event()
    num_at_once = INFO.slots + 2
    async with http_around(ScriptedClient(end, *ANSWER)) as http:
        asked = [
            asyncio.create_task(http.post("/v1/completions", json={"prompt": "Once"}))
            for _ in range(num_at_once + 3)
        ]
        text = ""
        while 'appliance_line_requests{model="novels"} 3.0' not in text:
            response = await http.get("/metrics")
            assert response.status_code == 200, response.text
            text = response.text
        end.set()
        assert {response.status_code for response in await asyncio.gather(*asked)} == {200}


def test_an_endpoint_that_would_run_in_a_thread_is_none() -> None:
    """What it reads belongs to the event loop."""
    router = FormatRouter("test")
    with pytest.raises(AssertionError, match="/plain has to be a coroutine"):
        router.get("/plain")(lambda: Response())
