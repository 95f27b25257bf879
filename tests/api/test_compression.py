"""Whole responses are packed where the client accepts that; streams never are."""

from __future__ import annotations

import gzip
import importlib
from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.api.door.compression import MIN_BYTES, accepted_coding
from appliance.protocol.events import Delta, Finished, FinishReason, Started, Usage
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import Serve

LONG = "It was a long story. " * 200
SCRIPT = (
    Started(1, 5),
    Delta(request_id=1, text=LONG, num_tokens=5),
    Finished(
        request_id=1,
        reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=5),
    ),
)
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
zstd = importlib.import_module("backports.zstd")  # an extra; Python has it from 3.14 on


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("GZIP;q=0.5, deflate", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.1", "gzip"),
        ("gzip;q=0, zstd;q=0", None),
        ("*", "zstd"),
        ("*;q=0", None),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=x", None),
        ("gzip;level=3", "gzip"),
    ],
)
def test_the_best_coding_that_is_accepted(header: str, coding: str | None) -> None:
    assert accepted_coding(header) == coding


async def asked(serve: Serve, coding: str, fields: dict[str, Any]) -> tuple[httpx.Headers, bytes]:
    """The response's head and its body as it was sent."""
    url = serve(create_app(gateway_around(ScriptedClient(*SCRIPT))))
    async with (
        httpx.AsyncClient(headers={"accept-encoding": coding}) as http,
        http.stream("POST", f"{url}/v1/chat/completions", json=fields) as response,
    ):
        assert response.status_code == 200
        body = b"".join([part async for part in response.aiter_raw()])
        return response.headers, body


@pytest.mark.parametrize(
    ("coding", "unpack"), [("gzip", gzip.decompress), ("zstd", zstd.decompress)]
)
async def test_a_whole_response_is_packed_as_accepted(
    serve: Serve, coding: str, unpack: Any
) -> None:
    headers, body = await asked(serve, coding, CHAT)
    assert (headers["content-encoding"], headers["content-length"]) == (coding, str(len(body)))
    assert headers["vary"] == "Accept-Encoding"
    assert LONG.strip().encode() in unpack(body)
    assert len(body) < 1000


async def test_what_is_not_accepted_short_or_a_stream_goes_out_as_it_is(serve: Serve) -> None:
    headers, body = await asked(serve, "identity", CHAT)
    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept-Encoding"
    assert LONG.strip().encode() in body
    headers, body = await asked(serve, "gzip", {**CHAT, "stream": True})
    assert "content-encoding" not in headers
    assert LONG.strip().encode() in body
    url = serve(create_app(gateway_around(ScriptedClient())))
    async with httpx.AsyncClient() as http:
        short = await http.get(f"{url}/health")
        assert len(short.content) < MIN_BYTES
        assert "content-encoding" not in short.headers


async def test_head_has_the_headers_of_the_packed_response(serve: Serve) -> None:
    url = serve(create_app(gateway_around(ScriptedClient())))
    async with httpx.AsyncClient(headers={"accept-encoding": "gzip"}) as http:
        whole, head = await http.get(f"{url}/openapi.json"), await http.head(f"{url}/openapi.json")
    assert head.content == b""
    for name in ("content-encoding", "content-length", "vary"):
        assert head.headers[name] == whole.headers[name]
