"""Real servers on loopback ports, in the event loop of whoever asks. Knows no endpoint."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from appliance.api.transport.connection import patient
from appliance.api.transport.websocket.protocol import BoundedWebSocket

Serve = Callable[[FastAPI], str]


@asynccontextmanager
async def servers() -> AsyncIterator[Serve]:
    """What it gives is called with an application, and returns the base URL.

    The socket listens at once, so nobody has to wait. All end with the context.
    """
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    def start(app: FastAPI) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            http=patient(app.state.client_timeout_s, app.state.error_shapes),
            log_config=None,
            lifespan="off",
            ws=BoundedWebSocket,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        running.append((server, asyncio.create_task(server.serve(sockets=[listener]))))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, task in running:
        server.should_exit = True
        await task
