"""A file as an HTTP response, in pieces.

Knows no wire format and no record of the file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.transport.client_watch import impatient, unless_disconnected

_PIECE_BYTES = 256 << 10
MEDIA_TYPE = "application/octet-stream"


class FileResponse(Response):
    """Its `num_bytes` bytes. A client that takes none for the application's
    `client_timeout_s` is given up.
    """

    def __init__(self, path: Path, num_bytes: int) -> None:
        self.status_code = 200
        self.media_type = MEDIA_TYPE
        self.background = None
        self.init_headers({"content-length": str(num_bytes)})
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout_s: float = scope["app"].state.client_timeout_s
        await unless_disconnected(receive, self._write(impatient(send, timeout_s)))

    async def _write(self, send: Send) -> None:
        head = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        with await asyncio.to_thread(self._path.open, "rb") as file:
            await send(head)
            while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
