"""GET /metrics: Prometheus' text format, behind the key like everything else."""

from __future__ import annotations

from appliance.api.app import create_app
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_around, http_to


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
