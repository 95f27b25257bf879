"""GET /usage: a key's holder sees what it used, and where no key is needed everybody does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.report import Prices
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import MIGRATIONS
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to


@pytest.fixture
async def usage() -> AsyncGenerator[UsageLog, None]:
    usage = UsageLog(
        UsageFile(Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)),
        prices=Prices(price_per_hour=1.0),
    )
    yield usage
    await usage.close()


def app_of(usage: UsageLog | None, *keys: str) -> FastAPI:
    return create_app(gateway_around(ScriptedClient(*ANSWER), keys=keys, usage=usage))


async def asked(app: FastAPI, key: str = "", path: str = "/usage") -> Any:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with http_to(app, **headers) as http:
        await http.post("/v1/completions", json={"prompt": "Once"})
        return (await http.get(path)).json()


async def test_without_keys_everything_is_seen(usage: UsageLog) -> None:
    found = await asked(app_of(usage), path="/usage?by=model&since=1d&gco2_per_kwh=5")
    (row,) = found["rows"]
    assert "key" not in row
    assert (row["model"], row["requests"], row["failed"]) == ("novels", 1, 0)
    assert (row["prompt_tokens"], row["cached_prompt_tokens"]) == (5, 2)
    assert (row["completion_tokens"], row["cost"], row["energy_j"]) == (5, 0.0, None)
    assert (found["price_per_hour"], found["gco2_per_kwh"]) == (1.0, 5.0)


async def test_a_key_sees_only_what_it_used(usage: UsageLog) -> None:
    app = app_of(usage, "secret", "other")
    assert (await asked(app, "secret"))["total"]["requests"] == 1
    found = await asked(app, "other")
    assert found["total"]["requests"] == 1
    assert [row["key"].startswith("key-") for row in found["rows"]] == [True]


async def test_it_needs_a_key_where_the_server_does(usage: UsageLog) -> None:
    async with http_to(app_of(usage, "secret")) as http:
        assert (await http.get("/usage")).status_code == 401


@pytest.mark.parametrize(
    ("asks", "param", "says"),
    [
        ("by=colour", "by", "'colour'"),
        ("since=-1d", "since", "'-1d'"),
        ("key=alice", "key", "/usage has by, gco2_per_kwh, price_per_hour, since"),
    ],
)
async def test_what_cannot_be_read_is_named(
    usage: UsageLog, asks: str, param: str, says: str
) -> None:
    found = await asked(app_of(usage), path=f"/usage?{asks}")
    assert found["error"]["param"] == param
    assert says in found["error"]["message"]


async def test_a_server_that_keeps_no_usage_says_so() -> None:
    found = await asked(app_of(None))
    assert found["error"]["code"] == "not_allowed"
