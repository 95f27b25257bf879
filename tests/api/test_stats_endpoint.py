"""GET /stats: how requests went lately, behind the key like everything else."""

from __future__ import annotations

from appliance.api.app import create_app
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to


async def test_answers_are_told_by_model_and_by_key() -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys=["secret"]))
    async with http_to(app, authorization="Bearer secret") as http:
        await http.post("/v1/completions", json={"prompt": "Once", "n": 2})
        found = (await http.get("/stats")).json()
    hour = found["last_hour"]
    (key,) = hour["keys"]
    assert key.startswith("key-")
    for numbers in (hour["models"]["novels"], hour["keys"][key]):
        assert numbers["requests"] == 2
        assert numbers["outcomes"] == {"stop": 2}
        assert numbers["prefix_hit_rate"] == 2 / 5
        assert numbers["first_token_s"]["count"] == 2
        assert numbers["between_tokens_s"]["count"] == 2 * (1 + 2)
    assert hour["models"]["novels"]["covers_s"] == found["uptime_s"]


async def test_it_needs_a_key_where_the_server_does() -> None:
    app = create_app(gateway_around(ScriptedClient(), keys=["secret"]))
    async with http_to(app) as http:
        assert (await http.get("/stats")).status_code == 401
