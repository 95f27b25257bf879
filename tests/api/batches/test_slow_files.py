"""A file that comes by drops ends, however long the drops go on."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from starlette.requests import Request
from starlette.types import Message

from appliance.api.transport.files.parts import LEAST_BYTES_PER_S, body_parts
from appliance.errors import BodyTooSlow

TIMEOUT_S = 30


def sent(part: bytes, count: int) -> Request:
    """Its parts are there at once: only the test's clock runs."""
    left = iter(range(count, -1, -1))

    async def receive() -> Message:
        num_left = next(left)
        return {"type": "http.request", "body": part if num_left else b"", "more_body": num_left}

    app = SimpleNamespace(state=SimpleNamespace(client_timeout_s=TIMEOUT_S))
    return Request({"type": "http", "app": app}, receive)


async def test_drops_end_a_little_after_the_time_for_silence() -> None:
    seconds = itertools.count()
    parts = body_parts(sent(b"x", 100), lambda: next(seconds))
    assert [await anext(parts) for _ in range(TIMEOUT_S)] == [b"x"] * TIMEOUT_S
    with pytest.raises(BodyTooSlow, match="less than 1024 bytes a second"):
        await anext(parts)


@pytest.mark.parametrize("num_parts", [1, 1000])
async def test_whoever_keeps_to_the_least_may_go_on(num_parts: int) -> None:
    seconds = itertools.count()
    part = bytes(LEAST_BYTES_PER_S)
    received = [each async for each in body_parts(sent(part, num_parts), lambda: next(seconds))]
    assert b"".join(received) == part * num_parts
