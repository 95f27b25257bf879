"""What `serve` does when nobody will start another worker: it ends and says so, for its
service manager to see.
"""

from __future__ import annotations

import asyncio
import math
import socket
import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.cli.listening import HttpServer, http_config
from appliance.cli.serve import serve
from appliance.cli.service.service import Service
from appliance.errors import WorkerLost
from appliance.fit.plan.budget import Budget
from appliance.gateway.accounts.accounts import Accounts
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.manager import ModelManager, Terms
from appliance.gateway.pressure_watch import PressureWatch
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.thermal.governor import Mode
from appliance.gateway.thermal.watch import ThermalWatch
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.health import WorkerState
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.settings import ServeSettings
from appliance.worker.crash import Crash, Remedy
from appliance.worker.supervisor import Supervisor
from tests.worker_configs import plain_config


def no_remedy(_crash: Crash) -> Remedy | None:
    raise ValueError("no remedy is known")


@dataclass(frozen=True)
class OneWorker:
    """Loader and plan in one: there is one way to load the one model."""

    worker: Supervisor
    need_bytes: int = 500
    anonymous_bytes: int = 500
    choice: str = "as it is"

    async def prepare(self, model_id: str) -> None: ...

    async def want(self, model_id: str) -> OneWorker:
        return self

    async def plan(self, model_id: str, num_bytes: int) -> OneWorker:
        return self

    def make_worker(self) -> Supervisor:
        return self.worker


async def test_the_end_of_supervision_ends_the_server(tmp_path: Path) -> None:
    settings = ServeSettings(models_dir=tmp_path, state_dir=tmp_path)
    config = plain_config(
        model_path="none",
        sizes=ContextSizes(
            slots=1,
            kv_cells=64,
            kv_type="f16",
            threads=1,
            max_rows=8,
            batch_threads=1,
            ubatch_rows=8,
        ),
        ctx=64,
    )
    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:request:SIGILL"]
    worker = Supervisor(config, on_crash=no_remedy, command=command)
    manager = ModelManager([Terms("novels", math.inf)], OneWorker(worker), 1000)
    novels = manager.model("novels")
    accounts = Accounts(tmp_path)
    router = Router([ServedModel(id="novels", client=novels, created=0)])
    gateway = Gateway(router, accounts.admission)
    watch = PressureWatch(gateway.router, Budget(1 << 40, 1 << 20, "a test"), gateway.metrics)
    http = HttpServer(http_config(settings, gateway, 1 << 20))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        service = Service(
            gateway=gateway,
            accounts=accounts,
            manager=manager,
            watch=watch,
            thermal=ThermalWatch(router, gateway.metrics, mode=Mode.OFF),
            http=http,
            preload=("novels",),
        )
        serving = asyncio.create_task(serve(settings, [sock], service, lambda: settings))
        while novels.health().state is not WorkerState.READY:
            await asyncio.sleep(0)
        async with aclosing(novels.generate(GenerateRequest(prompt=TextPrompt("x")))) as events:
            with pytest.raises(WorkerLost):
                await anext(events)
        with pytest.raises(WorkerLost, match="no remedy is known") as lost:
            await asyncio.wait_for(serving, 60)
    assert lost.value.exit_code == 1
