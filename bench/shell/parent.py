"""Runs in a child process: the serving parent as it is, on one CPU, around an instant
worker on another.

Usage: python -m bench.shell.parent PORT PARENT_CPU WORKER_CPU [nagle]
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from pathlib import Path

from appliance.cli.listening import HttpServer, http_config, listening_sockets
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.protocol.context_sizes import ContextSizes
from appliance.settings import ServerOptions
from appliance.worker.config import WorkerConfig
from appliance.worker.supervisor import Supervisor

_MAX_BODY_BYTES = 1 << 20
_CONFIG = WorkerConfig(
    model_path="instant",
    sizes=ContextSizes(
        slots=64,
        kv_cells=8192,
        kv_type="f16",
        threads=1,
        max_rows=64,
        batch_threads=1,
        ubatch_rows=64,
    ),
    ctx=8192,
    max_waiting_tokens=10**9,
    max_stall_ms=100,
    resident_prefix_cells=0,
    prefix_host_bytes=0,
    prefix_disk_bytes=0,
    prefix_ttl_s=0.0,
    use_extra_bufts=False,
)


async def main(port: int, worker_cpu: int, *, nagle: bool) -> None:
    command = [sys.executable, "-m", "bench.shell.instant_worker", str(worker_cpu)]
    supervisor = Supervisor(_CONFIG, command=command)
    await supervisor.start()
    nowhere = Path(os.devnull)
    settings = ServerOptions(port=port, models_dir=nowhere, state_dir=nowhere)
    gateway = Gateway(
        Router([ServedModel(id="instant", client=supervisor, created=int(time.time()))]),
        Admission([]),
    )
    listening = listening_sockets(settings)
    for listener in listening if nagle else []:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    await HttpServer(http_config(settings, gateway, _MAX_BODY_BYTES)).serve(sockets=listening)


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[2])})
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[3]), nagle="nagle" in sys.argv[4:]))
