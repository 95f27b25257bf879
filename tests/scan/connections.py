"""What is no request, no whole one, or more than one: framings, slow senders, floods.

Knows the two or three paths that it sends to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from tests.scan.framings import HIDDEN_ID, LEGAL, SMUGGLING
from tests.scan.requests import Request, Who
from tests.scan.scanner import Scanner
from tests.scan.wire import PATIENCE_S, Connection, NoHttp

_QUIET_S = 1.0  # by then a server on this machine has answered what it will answer
_DRIP_S = 0.05
_MANY = 200  # connections
_HEAD_BYTES = 60_000  # a whole one may have 65,536
_NUM_PIPELINED = 2000


async def scan_framings(scanner: Scanner) -> None:
    """None of them may be answered more than once, or what is hidden in them at all."""
    await asyncio.gather(
        *(_scan_framing(scanner, what, data) for what, data in SMUGGLING.items()),
        *(_scan_framing(scanner, what, data, is_legal=True) for what, data in LEGAL.items()),
    )


async def _scan_framing(
    scanner: Scanner, what: str, data: bytes, *, is_legal: bool = False
) -> None:
    findings = scanner.findings
    findings.num_requests += 1
    request = Request(method=b"-", target=b"-", what=what)
    async with Connection(scanner.address) as connection:
        await connection.open()
        await connection.send(data)
        try:
            responses = await connection.receive_all(quiet_s=_QUIET_S)
        except NoHttp as error:
            findings.add(what, f"no HTTP came back: {error}")
            return
    for response in responses:
        scanner.judge(request, response)
        if response.get("x-request-id") == HIDDEN_ID:
            findings.add(what, "what is hidden behind it was answered")
    if is_legal and len(responses) != 1:
        findings.add(what, f"answered {len(responses)} times")


async def scan_slow(scanner: Scanner, timeout_s: float) -> None:
    """Who sends slowly, or nothing, loses the connection."""
    host = b"Host: " + scanner.address.name + b"\r\n"
    key = scanner.keys.of(Who.HOLDER)
    known = host + (b"" if key is None else b"Authorization: Bearer " + key + b"\r\n")
    json = b"Content-Type: application/json\r\n"
    form = b"Content-Type: multipart/form-data; boundary=b\r\n"
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    digest = b"sha256:" + b"0" * 64
    slow: Mapping[str, bytes] = {
        "silence": b"",
        "a slow head": b"",
        "a slow body": b"POST /v1/completions HTTP/1.1\r\n%b%bContent-Length: 99999\r\n\r\n"
        % (known, json),
        "slow chunks": b"POST /v1/completions HTTP/1.1\r\n%b%bTransfer-Encoding: chunked\r\n\r\n"
        % (known, json),
        "a slow body without a key": b"POST /v1/completions HTTP/1.1\r\n%b%b"
        b"Content-Length: 99999\r\n\r\n" % (host, json),
        "a slow file": b"POST /v1/files HTTP/1.1\r\n%b%bContent-Length: 99999\r\n\r\n%b"
        % (known, form, file),
        "a slow blob": b"POST /api/blobs/%b HTTP/1.1\r\n%bContent-Length: 99999\r\n\r\n"
        % (digest, known),
    }
    await asyncio.gather(
        *(_scan_slow(scanner, what, begin, timeout_s) for what, begin in slow.items())
    )


async def _scan_slow(scanner: Scanner, what: str, begin: bytes, timeout_s: float) -> None:
    """The server has `timeout_s`, and some time for a busy machine."""
    drops = {"silence": b"", "a slow head": b"G", "slow chunks": b"1\r\nx\r\n"}
    drop = drops.get(what, b"x")
    scanner.findings.num_requests += 1
    async with Connection(scanner.address) as connection:
        await connection.open()
        await connection.send(begin)
        closing = asyncio.create_task(connection.until_closed(timeout_s + PATIENCE_S))
        while not closing.done():
            await connection.send(drop)
            await asyncio.wait((closing,), timeout=_DRIP_S)
        try:
            closing.result()
        except asyncio.TimeoutError:
            scanner.findings.add(what, f"goes on after {timeout_s + PATIENCE_S:g} s")


async def scan_floods(scanner: Scanner, max_body_bytes: int) -> None:
    """Many at once. What it takes of memory is whoever's to look at who starts this."""
    host = b"Host: " + scanner.address.name + b"\r\n"
    head = b"GET /health HTTP/1.1\r\n" + host
    unfinished = head + b"X: " + b"a" * _HEAD_BYTES
    large = b"POST /v1/completions HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        host,
        max_body_bytes,
        bytes(max_body_bytes),
    )
    await _flood(scanner, [unfinished] * _MANY)
    await _flood(scanner, [large] * (_MANY // 4))
    await _flood(scanner, [(head + b"\r\n") * _NUM_PIPELINED] * 8)


async def _flood(scanner: Scanner, all_data: list[bytes]) -> None:
    """Reads nothing until everybody has sent."""
    connections = [Connection(scanner.address) for _ in all_data]
    scanner.findings.num_requests += len(connections)
    try:
        await asyncio.gather(
            *(_send(each, data) for each, data in zip(connections, all_data, strict=True))
        )
    finally:
        await asyncio.gather(*(each.close() for each in connections))


async def _send(connection: Connection, data: bytes) -> None:
    """As much as the server takes."""
    await connection.open()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(connection.send(data), _QUIET_S)
