"""What `serve` does when nobody will start another worker: it ends and says so, for its service manager to see."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from appliance.cli import serve
from appliance.errors import WorkerLost
from appliance.fit.budget import Budget
from appliance.gateway.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.pressure_watch import PressureWatch
from appliance.gateway.router import Router, ServedModel
from appliance.settings import ServeSettings
from appliance.worker.client import WorkerState
from appliance.worker.crash import Crash, Remedy
from appliance.worker.messages import GenerateRequest, TextPrompt, WorkerConfig
from appliance.worker.supervisor import Supervisor


def no_remedy(_crash: Crash) -> Remedy | None:
    raise ValueError("no remedy is known")


async def test_the_end_of_supervision_ends_the_server(tmp_path: Path) -> None:
    settings = ServeSettings(models_dir=tmp_path, state_dir=tmp_path)
    config = WorkerConfig(
        model_path="none",
        ctx=64,
        slots=1,
        kv_cells=64,
        kv_type="f16",
        threads=1,
        max_batch_rows=8,
        max_waiting_tokens=64,
        max_stall_ms=200,
        resident_prefix_cells=0,
        prefix_host_bytes=0,
        prefix_disk_bytes=0,
        prefix_ttl_s=0.0,
        use_extra_bufts=False,
    )
    command = [sys.executable, "-m", "tests.worker.scripted_worker", "plain:request:SIGILL"]
    supervisor = Supervisor(config, on_crash=no_remedy, command=command)
    gateway = Gateway(Router([ServedModel("novels", supervisor, 0)]), Admission())
    watch = PressureWatch(gateway.router, Budget(1 << 40, 1 << 20, "a test"), gateway.metrics)
    server = serve._Server(serve._uvicorn_config(settings, gateway, 1 << 20))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        serving = asyncio.create_task(serve._serve(settings, sock, supervisor, gateway, server, watch))
        while supervisor.health().state is not WorkerState.READY:
            await asyncio.sleep(0)
        async with aclosing(supervisor.generate(GenerateRequest(TextPrompt("x")))) as events:
            with pytest.raises(WorkerLost):
                await anext(events)
        with pytest.raises(WorkerLost, match="no remedy is known") as lost:
            await asyncio.wait_for(serving, 60)
    assert lost.value.exit_code == 1
