"""Bytes to a server and back, as they are. Knows no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

PATIENCE_S = 30


async def converse(url: str, parts: Iterable[bytes], *, until: bytes = b"") -> bytes:
    """What is answered to these segments, up to `until` or until the server closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)
    answer = reader.readuntil(until) if until else reader.read()
    received = await asyncio.wait_for(answer, PATIENCE_S)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return received
