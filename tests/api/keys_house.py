"""A server with a state folder in which keys are made. Knows no test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from appliance.api.app import create_app
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.accounts.accounts import Accounts
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.usage.log import UsageLog
from appliance.gateway.usage.rows import UsageFile
from appliance.gateway.usage.tables import MIGRATIONS
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, http_to
from tests.gateway.accounts.clock import Clock


class KeysHouse:
    """A server with a state folder, whose clocks stand still: root is an administrator,
    alice is not.
    """

    def __init__(self, folder: Path, key_file: Path | None = None) -> None:
        self.folder = folder
        self.clock = Clock()
        self.accounts = Accounts(folder, key_file, clocks=self.clock.clocks)
        database = Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
        self.usage = UsageLog(UsageFile(database), wall_clock=self.clock.clocks.unix_s)
        model = ServedModel(id="novels", client=ScriptedClient(*ANSWER), created=CREATED)
        self.app = create_app(
            Gateway(
                Router([model]),
                self.accounts.admission,
                quotas=self.accounts.quotas,
                keys=self.accounts.administration,
                usage=self.usage,
            )
        )
        self.keys: dict[str, str] = {}

    async def prepare(self) -> None:
        for name, terms in (("root", {"is_admin": True}), ("alice", {"tokens_per_day": 1000})):
            self.keys[name] = await self.accounts.administration.create(name, terms)

    def http(self, name: str = "root") -> httpx.AsyncClient:
        return http_to(self.app, authorization=f"Bearer {self.keys.get(name, name)}")

    async def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, name: str = "root"
    ) -> httpx.Response:
        async with self.http(name) as http:
            return await http.request(method, path, json=body)

    async def record(self, of: str, name: str = "root") -> dict[str, Any]:
        found = (await self.send("GET", "/keys", name=name)).json()["keys"]
        [record] = [each for each in found if each["name"] == of]
        return dict(record)

    async def close(self) -> None:
        await self.accounts.close()
        await self.usage.close()
