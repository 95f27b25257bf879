"""Bytes to a server and its responses back, read as strictly as a proxy would.

Knows no route. What is sent may be anything; what comes back has to be HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

PATIENCE_S = 30.0  # for a response; longer is a finding
_HEAD_LIMIT = 1 << 20
_NO_BODY = (204, 304)


class NoHttp(Exception):
    """What came back is no response."""


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str) -> Address:
        """Certificates are not looked at: only what is behind them."""
        parts = urlsplit(url)
        assert parts.hostname, f"{url} names no host"
        if parts.scheme != "https":
            return cls(parts.hostname, parts.port or 80)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return cls(parts.hostname, parts.port or 443, context)

    @property
    def name(self) -> bytes:
        """For the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()


@dataclass(frozen=True, kw_only=True)
class Response:
    status: int
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes

    def get(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each == name), None)


class Connection:
    """Use it as a context; `open` it before anything is sent."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_open(self) -> bool:
        return self._reader is not None and not self._reader.at_eof()

    async def open(self) -> None:
        await self.close()
        self._reader, self._writer = await asyncio.open_connection(
            self._address.host, self._address.port, ssl=self._address.tls, limit=_HEAD_LIMIT
        )

    async def close(self) -> None:
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """On an open one. What the server does not take any more is left out."""
        assert self._writer is not None
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def receive(self, *, is_head: bool = False) -> Response:
        """Raises `NoHttp`, `EOFError` where the server closes without one, and
        `TimeoutError`.
        """
        assert self._reader is not None
        response = await asyncio.wait_for(_read(self._reader, is_head), PATIENCE_S)
        if (response.get("connection") or "").lower() == "close":
            await self.close()
        return response

    async def receive_all(self, *, quiet_s: float) -> list[Response]:
        """Until the server closes, or is quiet for so long."""
        found: list[Response] = []
        while self._reader is not None:
            try:
                found.append(await asyncio.wait_for(self.receive(), quiet_s))
            except (EOFError, asyncio.TimeoutError, OSError):
                break
        return found

    async def until_closed(self, timeout_s: float) -> None:
        """By the server; what it still sends is read. Raises `TimeoutError`."""
        assert self._reader is not None
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self._reader.read(), timeout_s)


async def _read(reader: asyncio.StreamReader, is_head: bool) -> Response:
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise NoHttp(f"half a head: {error.partial[:200]!r}") from error
            raise EOFError from error
        status, headers = _head(head)
        if status >= 200 or status == 101:
            break
    body = b""
    if not is_head and status not in _NO_BODY and status != 101:
        body = await _body(reader, headers)
    return Response(status=status, headers=headers, body=body)


def _head(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    version, _, rest = first.partition(b" ")
    code = rest[:3]
    if version != b"HTTP/1.1" or not code.isdigit():
        raise NoHttp(f"no status line: {first[:200]!r}")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.strip() != name or b"\n" in line or b"\r" in line:
            raise NoHttp(f"no header: {line[:200]!r}")
        headers.append((name.decode("ascii").lower(), value.strip().decode("latin-1")))
    return int(code), tuple(headers)


async def _body(reader: asyncio.StreamReader, headers: Sequence[tuple[str, str]]) -> bytes:
    said = dict(headers)
    if len([name for name, _ in headers if name == "content-length"]) > 1:
        raise NoHttp("two lengths")
    if "transfer-encoding" in said:
        if "content-length" in said or said["transfer-encoding"] != "chunked":
            raise NoHttp("a length that is none")
        return await _chunks(reader)
    if "content-length" in said:
        return await reader.readexactly(int(said["content-length"]))
    return await reader.read()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise NoHttp("a chunk without an end")
    if await reader.readexactly(2) != b"\r\n":
        raise NoHttp("trailers")
    return bytes(body)
