"""Records as they come, a line each, or the last one alone. Knows no wire format.

The work behind them ends when the client leaves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.errors import INTERNAL_FAILURE, ErrorShape, Failure
from appliance.api.transport.client_watch import impatient, unless_disconnected
from appliance.api.transport.computed_response import ComputedResponse
from appliance.api.transport.ndjson import JSON_LINES
from appliance.api.transport.wire_format import WireRecord
from appliance.errors import ApplianceError

Records = AsyncGenerator[Any, None]  # of `WireRecord`s, at least one


class RecordLines(Response):
    """The status is sent with the first record: what fails before has its own; what fails
    later is the last line.
    """

    # Like Starlette's own streaming responses it leaves out Response.__init__, which
    # wants a body at once.
    def __init__(self, records: Records, error_shape: ErrorShape) -> None:
        self.status_code = 200
        self.media_type = JSON_LINES.media_type
        self.background = None
        self.init_headers(JSON_LINES.headers)
        self._records = records
        self._error_shape = error_shape

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout_s: float = scope["app"].state.client_timeout_s
        await unless_disconnected(receive, self._write(impatient(send, timeout_s)))

    async def _write(self, send: Send) -> None:
        async with aclosing(self._records) as records:
            first = await anext(records)
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            await self._line(first, send)
            try:
                async for record in records:
                    await self._line(record, send)
            except ApplianceError as error:
                await self._line(self._error_shape.to_record(Failure.of(error)), send)
            except Exception:
                await self._line(self._error_shape.to_record(INTERNAL_FAILURE), send)
                raise
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _line(self, record: WireRecord, send: Send) -> None:
        body = JSON_LINES.frame(record)
        await send({"type": "http.response.body", "body": body, "more_body": True})


def last_record(records: Records) -> Response:
    """For a client that wants no stream."""

    async def compute() -> WireRecord:
        last: WireRecord = {}
        async with aclosing(records) as read:
            async for record in read:
                last = record
        return last

    return ComputedResponse(compute)
