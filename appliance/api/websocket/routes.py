"""The WebSockets and their paths.

Knows no message: a connection's requests are its own.
"""

from __future__ import annotations

from fastapi import WebSocket

from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.websocket.connection import MessageConnection
from appliance.api.websocket.responses import ResponseLanes
from appliance.api.websocket.stream import StreamRequests
from appliance.gateway.lifecycle import Gateway


def websocket_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("websocket")

    @router.websocket("/v1/stream")
    async def stream(socket: WebSocket, caller: RequestCaller) -> None:
        """Many requests at once, each a chat, a completion or a response."""
        connection = MessageConnection(socket)
        streams = socket.app.state.open_streams
        requests = StreamRequests(connection, gateway, caller, scope=socket.scope, streams=streams)
        await connection.serve(requests.handle)

    @router.websocket("/v1/responses")
    async def responses(socket: WebSocket, caller: RequestCaller) -> None:
        """OpenAI's WebSocket mode: turns of conversations, in lanes."""
        connection = MessageConnection(socket)
        lanes = ResponseLanes(connection, gateway, caller, scope=socket.scope)
        await connection.serve(lanes.handle)

    return router
