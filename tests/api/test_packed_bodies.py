"""Bodies that are packed, or not written in UTF-8: read, or refused in plain words, and
never larger in memory than the limit.
"""

from __future__ import annotations

import gzip
import importlib
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from appliance.api.app import create_app
from appliance.api.door.content_coding import unpacker_of
from appliance.errors import BadRequest
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_around, http_to


def packed(data: bytes, level: int = 9) -> bytes:
    """Always the same, for tests are called by it."""
    return gzip.compress(data, level, mtime=0)


BODY = json.dumps({"messages": [{"role": "user", "content": "Grüße " * 50}]}).encode()
BOMB_BYTES = 64 << 20
MAX_BODY_BYTES = 1 << 20
zstd = importlib.import_module("backports.zstd")  # an extra; Python has it from 3.14 on


def wide_zstd() -> bytes:
    """Asks its reader to remember 16 MiB, where half of that is the most that is given."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 24})
    packed: bytes = packer.compress(BODY) + packer.flush()
    return packed


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


async def post(
    body: bytes, coding: str, *, num_parts: int = 1, limit: int = 1 << 20
) -> httpx.Response:
    async def parts() -> AsyncIterator[bytes]:
        size = -(-len(body) // num_parts) or 1
        for at in range(0, len(body), size):
            yield body[at : at + size]

    app = create_app(gateway_around(ScriptedClient(*ANSWER)), max_body_bytes=limit)
    headers = {"content-type": "application/json", "content-encoding": coding}
    async with http_to(app) as http:
        return await http.post("/v1/chat/completions", content=parts(), headers=headers)


@pytest.mark.parametrize("num_parts", [1, 10_000])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", packed(BODY)),
        ("GZIP", packed(BODY, 0)),
        ("x-gzip", packed(BODY)),
        ("identity, gzip", packed(BODY)),
        ("gzip", packed(BODY[:100]) + packed(b"") + packed(BODY[100:])),
        ("gzip", packed(BODY) + bytes(1000)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("zstd", zstd.compress(BODY)),
        ("zstd", zstd.compress(BODY[:100]) + zstd.compress(b"") + zstd.compress(BODY[100:])),
        ("identity", BODY),
        ("", BODY),
    ],
)
async def test_a_packed_body_is_read(coding: str, body: bytes, num_parts: int) -> None:
    response = await post(body, coding, num_parts=num_parts)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("coding", "body", "words"),
    [
        ("gzip", packed(BODY)[:-1], "ends in the midst of its gzip data"),
        ("gzip", packed(BODY)[:30], "ends in the midst of its gzip data"),
        ("gzip", b"\x1f", "ends in the midst of its gzip data"),
        ("gzip", packed(BODY) + b"\x1f\x8b", "ends in the midst of its gzip data"),
        ("gzip", BODY, "is not the gzip data that its Content-Encoding promises"),
        ("gzip", bytes(100), "is not the gzip data"),
        ("gzip", packed(BODY)[:-8] + bytes(8), "incorrect data check"),
        ("gzip", packed(BODY) + b"{}", "is not the gzip data"),
        ("gzip", packed(b"") * 1025, "more than 1024 gzip members"),
        ("deflate", zlib.compress(BODY)[:-1], "ends in the midst of its deflate data"),
        ("deflate", b"x", "ends in the midst of its deflate data"),
        ("deflate", BODY, "is not the deflate data"),
        ("deflate", zlib.compress(BODY) + b"{}", "goes on behind the end"),
        ("deflate", raw_deflate(BODY) + b"{}", "goes on behind the end"),
        ("zstd", zstd.compress(BODY)[:-1], "ends in the midst of its zstd data"),
        ("zstd", zstd.compress(BODY)[:3], "ends in the midst of its zstd data"),
        ("zstd", BODY, "is not the zstd data that its Content-Encoding promises"),
        ("zstd", zstd.compress(BODY) + b"{}{}{}{}", "is not the zstd data"),
        ("zstd", zstd.compress(b"") * 1025, "more than 1024 zstd frames"),
        ("zstd", wide_zstd(), "is not the zstd data"),
    ],
)
@pytest.mark.parametrize("num_parts", [1, 10_000])
async def test_what_is_no_packed_body_is_400(
    coding: str, body: bytes, words: str, num_parts: int
) -> None:
    response = await post(body, coding, num_parts=num_parts)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "gzip, br", "x" * 500])
async def test_another_packing_is_415_and_names_what_is_taken(coding: str) -> None:
    response = await post(BODY, coding)
    assert response.status_code == 415
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("unknown_coding", "invalid_request_error")
    assert "one of: zstd, gzip, deflate" in error["message"]
    assert len(error["message"]) < 300
    assert response.headers["accept-encoding"] == "zstd, gzip, deflate"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", packed(bytes(BOMB_BYTES), 1)),
        ("gzip", packed(bytes(BOMB_BYTES >> 8)) * 256),
        ("deflate", zlib.compress(bytes(BOMB_BYTES), 1)),
        ("zstd", zstd.compress(bytes(BOMB_BYTES))),
        ("zstd", zstd.compress(bytes(BOMB_BYTES >> 8)) * 256),
    ],
    ids=["gzip", "many members", "deflate", "zstd", "many frames"],
)
async def test_a_bomb_is_413_and_never_unpacked(coding: str, body: bytes) -> None:
    assert len(body) < MAX_BODY_BYTES
    tracemalloc.start()
    response = await post(body, coding, limit=MAX_BODY_BYTES)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
    assert peak_bytes < 5 * MAX_BODY_BYTES


async def test_the_limit_is_on_the_packed_body_and_on_the_unpacked_one() -> None:
    exact = BODY.ljust(1000)
    assert (await post(packed(exact), "gzip", limit=1000)).status_code == 200
    assert (await post(packed(exact + b" "), "gzip", limit=1000)).status_code == 413
    empty = packed(exact) + packed(b"") * 50
    assert len(empty) > 1000
    assert (await post(empty, "gzip", limit=1000)).status_code == 413


@pytest.mark.parametrize(("coding", "pack"), [("gzip", packed), ("zstd", zstd.compress)])
async def test_no_more_comes_out_than_there_is_room(
    coding: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(bytes(100_000))
    for room in (1, 99_999, 100_000, 100_001):
        assert len(unpacker_of(coding).feed(packed, room)) == min(room, 100_000)
    unpacker = unpacker_of(coding)
    assert len(unpacker.feed(packed, 10)) == 10
    with pytest.raises(BadRequest):
        unpacker.finish()


async def test_a_request_without_a_body_may_say_that_it_is_packed() -> None:
    async with http_around(ScriptedClient()) as http:
        response = await http.get("/v1/models", headers={"content-encoding": "gzip"})
    assert response.status_code == 200


# --- what is no UTF-8 -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\xef\xbb\xbf" + BODY, "it begins with a byte-order mark (BOM)"),
        (BODY.decode().encode("utf-16"), "it is UTF-16; send it as UTF-8"),
        (BODY.decode().encode("utf-16-le"), "it is UTF-16 or UTF-32; send it as UTF-8"),
        (BODY.decode().encode("utf-16-be"), "it is UTF-16 or UTF-32; send it as UTF-8"),
        (BODY.decode().encode("utf-32"), "it is UTF-32; send it as UTF-8"),
        (BODY.decode().encode("utf-32-be"), "it is UTF-16 or UTF-32; send it as UTF-8"),
        ('{"a": "é"}'.encode("latin-1"), "it is not UTF-8, for byte 7 is 0xe9"),
        (b'{"a": "\xc3', "it is not UTF-8, for byte 7 is 0xc3"),
        (b'{"a": "\xed\xa0\x80"}', "it is not UTF-8, for byte 7 is 0xed"),
        (packed(BODY), "send it with the header 'Content-Encoding: gzip'"),
        (zstd.compress(BODY), "send it with the header 'Content-Encoding: zstd'"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a": 1,}', "trailing comma"),
    ],
)
async def test_what_is_no_utf_8_is_400_in_plain_words(body: bytes, words: str) -> None:
    async with http_around(ScriptedClient(*ANSWER)) as http:
        response = await http.post(
            "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_json")
    assert error["message"].startswith("The body is not valid JSON: ")
    assert words in error["message"]
