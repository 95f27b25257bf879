"""What shows everybody's doings is for administrators; other keys see their own part."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.api.transport.guards import ADMIN_PATHS
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.key_records import KeyTerms
from appliance.gateway.accounts.keyring import Keyring
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.report import Prices
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import MIGRATIONS
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, http_to
from tests.gateway.accounts.made_keys import MadeKeys

TERMS = {"alice": KeyTerms(), "bob": KeyTerms(), "root": KeyTerms(is_admin=True)}
FILE_KEYS = ("office", "workshop")


class House:
    """Alice, Bob, an administrator, and two keys of a file; each has asked once."""

    def __init__(self, usage: UsageLog) -> None:
        self._keys = MadeKeys(TERMS)
        admission = Admission(FILE_KEYS, Keyring(self._keys.records))
        model = ServedModel(id="novels", client=ScriptedClient(*ANSWER), created=CREATED)
        self._app = create_app(Gateway(Router([model]), admission, usage=usage))

    def http(self, name: str) -> httpx.AsyncClient:
        key = self._keys.keys.get(name, name)
        return http_to(self._app, authorization=f"Bearer {key}")

    async def ask(self) -> None:
        for name in (*TERMS, *FILE_KEYS):
            async with self.http(name) as http:
                response = await http.post("/v1/completions", json={"prompt": "Once"})
                assert response.status_code == 200

    async def get(self, name: str, path: str) -> Any:
        async with self.http(name) as http:
            response = await http.get(path)
        assert response.status_code == 200
        return response.json()


@pytest.fixture
async def house() -> AsyncGenerator[House, None]:
    database = Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    usage = UsageLog(UsageFile(database), prices=Prices())
    house = House(usage)
    await house.ask()
    yield house
    await usage.close()


@pytest.mark.parametrize("path", ADMIN_PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("name", ["alice", "office"])
async def test_paths_of_administrators_are_shut_to_others(
    house: House, path: str, method: str, name: str
) -> None:
    for sent in (path, f"{path}/", f"/v1/{path}"):
        async with house.http(name) as http:
            response = await http.request(method, sent)
        assert response.status_code == 403
        assert method == "HEAD" or response.json()["error"]["code"] == "not_allowed"
        assert "root" not in response.text


async def test_an_administrator_sees_everybody(house: House) -> None:
    async with house.http("root") as http:
        metrics = (await http.get("/metrics")).text
    for name in TERMS:
        assert f'appliance_key_requests_total{{key="{name}",model="novels"}} 1.0' in metrics
    hour = (await house.get("root", "/stats"))["last_hour"]
    assert len(hour["keys"]) == len(TERMS) + len(FILE_KEYS)
    assert {*TERMS} <= {*hour["keys"]}
    assert hour["models"]["novels"]["requests"] == len(TERMS) + len(FILE_KEYS)
    usage = await house.get("root", "/usage")
    assert {*TERMS} <= {row["key"] for row in usage["rows"]}
    assert usage["total"]["requests"] == len(TERMS) + len(FILE_KEYS)


@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_another_key_sees_its_own_part(house: House, name: str) -> None:
    stats = await house.get(name, "/stats")
    for window in ("last_5_minutes", "last_hour"):
        assert stats[window]["models"] == {}
        assert [*stats[window]["keys"]] == [name]
        assert stats[window]["keys"][name]["requests"] == 1
    usage = await house.get(name, "/usage")
    assert [(row["key"], row["requests"]) for row in usage["rows"]] == [(name, 1)]
    assert usage["total"]["requests"] == 1
    others = {*TERMS} - {name}
    for path in ("/stats", "/usage", "/ps", "/slots", "/v1/models", "/props"):
        async with house.http(name) as http:
            text = (await http.get(path)).text
        assert not [each for each in others if f'"{each}"' in text]
