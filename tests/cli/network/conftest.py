"""A server as `appliance serve` configures it, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from appliance.cli.listening import HttpServer, http_config, listening_sockets
from appliance.cli.network.certificates import Certificates
from appliance.gateway.lifecycle import Gateway
from appliance.settings import ServerOptions

Listen = Callable[..., Any]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Call it with settings, a gateway and certificates; it listens at once."""
    running: list[tuple[HttpServer, asyncio.Task[None]]] = []

    def start(
        settings: ServerOptions, gateway: Gateway, certificates: Certificates | None = None
    ) -> None:
        server = HttpServer(http_config(settings, gateway, 1 << 20, certificates))
        sockets = listening_sockets(settings)
        running.append((server, asyncio.create_task(server.serve(sockets=sockets))))

    yield start
    for server, task in running:
        server.should_exit = True
        await task
