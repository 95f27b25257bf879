"""One streamed completion over HTTP, and when each piece of it came.

Knows no scenario, no process and no statistics.

Plain asyncio rather than an HTTP library, and JSON parsed only once a stream has ended:
the servers compute on the same cores, so what the generator takes, they lack.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from appliance.time_limit import within

_MAX_REQUEST_S = 300.0
_READ_BYTES = 1 << 16
_MAX_ERROR_CHARS = 500

now_s = time.perf_counter


class RequestFailed(Exception):
    """A request was refused, broke off or took too long."""


@dataclass(frozen=True)
class Request:
    """`label` says what it is in its scenario; `max_tokens` are always made, for
    end-of-generation is ignored.

    The prompt is text or token ids.
    """

    label: str
    prompt: str | list[int]
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Times in seconds by `now_s`; `arrivals_s` are those of pieces of text, of which
    some may hold several tokens.

    Token counts are the server's own; `num_cached_tokens` is None where it does not
    tell.
    """

    label: str
    sent_s: float
    arrivals_s: list[float]
    num_prompt_tokens: int
    num_cached_tokens: int | None
    num_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.arrivals_s[0] - self.sent_s

    @property
    def ended_s(self) -> float:
        return self.arrivals_s[-1]

    @property
    def gaps_s(self) -> list[float]:
        return [after - before for before, after in pairwise(self.arrivals_s)]


@dataclass(frozen=True)
class StreamEvent:
    arrived_s: float
    data: bytes


@dataclass(frozen=True)
class Endpoint:
    """The completions endpoint of one model at HOST:PORT, with `tls` where that is not None,
    or on the Unix socket `path`.
    """

    host: str
    port: int
    model: str
    max_request_s: float = _MAX_REQUEST_S
    path: Path | None = None
    key: str | None = None
    tls: ssl.SSLContext | None = None

    async def complete(
        self, request: Request, on_event: Callable[[int], None] | None = None
    ) -> Answer:
        """Sends a request, reads its answer;
        `on_event` is told how many events have come.

        Raises `RequestFailed`.
        """
        wanted = {
            "model": self.model,
            "prompt": request.prompt,
            "max_tokens": request.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        sent_s = now_s()
        events = await self.post("/v1/completions", wanted, request.label, on_event)
        return _answer(request, sent_s, events)

    async def post(
        self,
        path: str,
        wanted: Mapping[str, object],
        label: str,
        on_event: Callable[[int], None] | None = None,
    ) -> list[StreamEvent]:
        """The server-sent events that answer what is `wanted`, as they came.

        Raises `RequestFailed`, with the `label`.
        """
        try:
            return await within(self.max_request_s, self._exchange(path, wanted, label, on_event))
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            raise RequestFailed(f"{label}: {type(error).__name__}: {error}") from error

    async def _exchange(
        self,
        path: str,
        wanted: Mapping[str, object],
        label: str,
        on_event: Callable[[int], None] | None,
    ) -> list[StreamEvent]:
        if self.path is not None:
            opening = asyncio.open_unix_connection(self.path, limit=_READ_BYTES)
        else:
            opening = asyncio.open_connection(self.host, self.port, limit=_READ_BYTES, ssl=self.tls)
        reader, writer = await opening
        try:
            writer.write(self._request_bytes(path, wanted))
            pieces = await _body(reader, label)
            events: list[StreamEvent] = []
            async for event in _events(pieces):
                events.append(event)
                if on_event is not None:
                    on_event(len(events))
            return events
        finally:
            writer.close()

    def _request_bytes(self, path: str, wanted: Mapping[str, object]) -> bytes:
        body = json.dumps(wanted).encode()
        key = "" if self.key is None else f"Authorization: Bearer {self.key}\r\n"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: "
            f"application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            f"{key}\r\n"
        )
        return head.encode() + body


async def _body(reader: asyncio.StreamReader, label: str) -> AsyncIterator[bytes]:
    """The body's pieces, once the head has come (RFC 9112).

    Raises `RequestFailed` for any status but 200.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    is_chunked = b"transfer-encoding: chunked" in head.lower()
    pieces = _chunks(reader) if is_chunked else _until_closed(reader)
    if status != b"200":
        body = b"".join([piece async for piece in pieces]).decode(errors="replace")
        raise RequestFailed(f"{label}: HTTP {status.decode()}: {body[:_MAX_ERROR_CHARS]}")
    return pieces


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while num_bytes := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield (await reader.readexactly(num_bytes + 2))[:-2]


async def _until_closed(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(_READ_BYTES):
        yield piece


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[StreamEvent]:
    """Server-sent events, one `data:` line each, with the time at which their last byte
    was there.
    """
    rest = b""
    async for piece in pieces:
        arrived_s = now_s()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield StreamEvent(arrived_s, line[5:].strip())


def _answer(request: Request, sent_s: float, events: list[StreamEvent]) -> Answer:
    """Raises `RequestFailed` where the stream holds an error, no usage, or another
    number of tokens than was asked.
    """
    arrivals_s: list[float] = []
    usage: dict[str, object] = {}
    for event in events:
        if event.data == b"[DONE]":
            break
        record = json.loads(event.data)
        if "error" in record:
            raise RequestFailed(f"{request.label}: {str(record['error'])[:_MAX_ERROR_CHARS]}")
        if any(choice.get("text") for choice in record["choices"]):
            arrivals_s.append(event.arrived_s)
        usage = record.get("usage") or usage
    if not usage or usage["completion_tokens"] != request.max_tokens or not arrivals_s:
        raise RequestFailed(
            f"{request.label}: {request.max_tokens} tokens were asked for; {len(arrivals_s)} "
            f"pieces of text came, and the usage is {usage or 'not told'}"
        )
    return Answer(
        label=request.label,
        sent_s=sent_s,
        arrivals_s=arrivals_s,
        num_prompt_tokens=_count(usage["prompt_tokens"]),
        num_cached_tokens=_cached(usage),
        num_tokens=request.max_tokens,
    )


def _cached(usage: dict[str, object]) -> int | None:
    details = usage.get("prompt_tokens_details")
    return (
        _count(details["cached_tokens"])
        if isinstance(details, dict) and "cached_tokens" in details
        else None
    )


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise RequestFailed(f"a token count is {value!r}")
    return value
