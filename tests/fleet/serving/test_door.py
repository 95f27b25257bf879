"""A door: the API and the gateway of a server, around models that are elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from appliance.fleet.serving.book import book_of
from appliance.fleet.serving.door import DoorConfig, DoorGateway, FleetModel
from appliance.fleet.serving.owner import Owner
from appliance.fleet.serving.settings import FleetTable
from appliance.fleet.serving.wire import AtDoor, ReplicaState
from appliance.gateway.tiers.rules import AutoRules
from appliance.protocol.health import WorkerState
from tests.api.scripted_client import INFO


class Nobody:
    """Implements `ReplicaCalls`: there is no replica."""

    async def answer(
        self, key: str, payload: bytes, at_door: AtDoor
    ) -> AsyncGenerator[bytes, None]:
        for nothing in ():
            yield nothing


@asynccontextmanager
async def door(
    folder: Path, models: Sequence[str] = ("m",), **table: Any
) -> AsyncGenerator[httpx.AsyncClient, None]:
    config = DoorConfig(
        models=[FleetModel(id=name, deployment=f"model-{name}") for name in models],
        auto=AutoRules(),
        fleet=FleetTable(),
        table=table,
        folder=str(folder),
        max_body_bytes=1 << 20,
    )
    owner = Owner(folder, ())
    made = DoorGateway(config, {f"model-{name}": Nobody() for name in models}, owner)
    transport = httpx.ASGITransport(made.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield http
    await owner.close()


@pytest.mark.parametrize(
    ("table", "name", "status"),
    [
        ({}, "127.0.0.1:8080", 200),
        ({}, "rebound.example.org", 403),
        ({"allowed_host": ["llm.example.org"]}, "llm.example.org", 200),
        ({"host": "0.0.0.0", "insecure": True}, "anything.example.org", 200),
    ],
)
async def test_names_are_checked_as_by_a_server(
    tmp_path: Path, table: dict[str, Any], name: str, status: int
) -> None:
    async with door(tmp_path, **table) as http:
        response = await http.get("/v1/models", headers={"Host": name})
    assert response.status_code == status


async def test_auto_chooses_among_the_models_of_a_fleet_by_what_replicas_say(
    tmp_path: Path,
) -> None:
    names = ("larger", "smaller", "embedder")
    for name, num_params, pooling in zip(names, (9, 3, 1), ("", "", "mean"), strict=True):
        info = msgspec.structs.replace(INFO, num_params=num_params, pooling=pooling)
        state = ReplicaState(node="n", state=WorkerState.READY, info=info, predicted_bytes=1)
        book_of(f"model-{name}").replicas_are({"a": state})
    async with door(tmp_path, names) as http:
        listed = (await http.get("/v1/models")).json()["data"]
    assert [each["id"] for each in listed] == [*names, "auto"]
    assert listed[-1]["tiers"] == ["smaller", "larger"]
