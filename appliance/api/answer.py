"""From a request's events to an HTTP answer, in one piece or as a stream. Knows no wire format.

Both kinds watch for the client's leaving all the while, so that nobody computes for a closed connection: also before
the first event, and also when nothing is being written, which is when a server by itself would not notice.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api import sse
from appliance.api.errors import error_body, internal_error_body
from appliance.errors import ApplianceError
from appliance.worker.messages import Delta, Event, Finished

_log = logging.getLogger(__name__)

Events = AbstractAsyncContextManager[AsyncIterator[Event]]  # entering begins the request, leaving cancels it


class _Answer(Response, ABC):
    # Like Starlette's own streaming responses it leaves out Response.__init__, which wants a body at once.
    def __init__(self, events: Events, media_type: str, headers: dict[str, str] | None = None) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._events = events

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        await _unless_disconnected(receive, self._write(send))

    @abstractmethod
    async def _write(self, send: Send) -> None: ...


class StreamedAnswer(_Answer):
    """Writes each event as it comes, rendered by `render`; nothing is written for those rendered empty.

    The status is sent with the first event, so a refusal before it is raised and gets its own status. What fails later
    becomes an error event, after which the stream ends without `[DONE]`: OpenAI's clients raise `APIError` on it.
    """

    def __init__(self, events: Events, render: Callable[[Event], bytes]) -> None:
        # Proxies such as nginx would otherwise collect the events.
        super().__init__(events, sse.MEDIA_TYPE, {"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._render = render

    async def _write(self, send: Send) -> None:
        async with self._events as events:
            first = await anext(events)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                await self._write_chunk(send, first)
                async for event in events:
                    await self._write_chunk(send, event)
            except ApplianceError as error:
                _log.warning("A stream broke: %s: %s", error.code, error.message)
                await send(_part(sse.frame(error_body(error))))
            except Exception:  # noqa: BLE001  # the status is out: a stream can only end with an error event
                _log.exception("A stream broke")
                await send(_part(sse.frame(internal_error_body())))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write_chunk(self, send: Send, event: Event) -> None:
        if chunk := self._render(event):
            await send(_part(chunk))


class WholeAnswer(_Answer):
    """Collects the text and writes it in one piece, rendered by `render`."""

    def __init__(self, events: Events, render: Callable[[str, Finished], bytes]) -> None:
        super().__init__(events, "application/json")
        self._render = render

    async def _write(self, send: Send) -> None:
        body = self._render(*await self._collect())
        headers = [*self.raw_headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _collect(self) -> tuple[str, Finished]:
        texts: list[str] = []
        async with self._events as events:
            async for event in events:
                if isinstance(event, Delta):
                    texts.append(event.text)
                elif isinstance(event, Finished):
                    return "".join(texts), event
        raise AssertionError("a Client ends every answer with Finished, or raises")


def _part(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def _unless_disconnected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` to its end, or until the client has gone: then cancels it and waits for its clean-up."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
    if not working.cancelled():
        working.result()  # raises what it raised


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
