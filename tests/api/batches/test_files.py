"""Files through the unmodified `openai` client, and forms as others write them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import openai
import pytest

from appliance.api.app import create_app
from tests.api.batches.running import batch_server
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to
from tests.api.serving import Serve

KEY = {"Authorization": "Bearer ann"}
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
PURPOSE = b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\none\r\n'
END = b"--B--\r\n"


async def test_a_file_from_its_upload_to_its_end(serve: Serve, tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB, with all that could look like a boundary
    async with (
        batch_server(serve, ScriptedClient(), tmp_path, 8 << 20) as server,
        server.client() as api,
    ):
        file = await api.files.create(
            file=("größe.jsonl", content),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 7200},
        )
        assert file.model_dump(exclude={"id", "created_at", "expires_at"}) == {
            "bytes": 2 << 20,
            "filename": "größe.jsonl",
            "object": "file",
            "purpose": "batch",
            "status": "processed",
            "status_details": None,
        }
        assert file.expires_at == file.created_at + 7200
        assert await api.files.retrieve(file.id) == file
        assert (await api.files.content(file.id)).content == content
        deleted = await api.files.delete(file.id)
        assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
        for gone in (
            api.files.retrieve(file.id),
            api.files.content(file.id),
            api.files.delete(file.id),
        ):
            with pytest.raises(openai.NotFoundError):
                await gone
    assert [*(tmp_path / "files").iterdir()] == []


async def test_lists_in_pages(serve: Serve, tmp_path: Path) -> None:
    async with batch_server(serve, ScriptedClient(), tmp_path) as server, server.client() as api:
        ids = [(await api.files.create(file=b"x", purpose="batch")).id for _ in range(3)]
        assert [file.id async for file in api.files.list(limit=1)] == ids[::-1]
        assert [file.id async for file in api.files.list(order="asc")] == ids
        assert [file.id async for file in api.files.list(purpose="vision")] == []
        with pytest.raises(openai.BadRequestError) as refused:
            await api.files.list(limit=0)
        assert refused.value.param == "limit"
        with pytest.raises(openai.BadRequestError) as refused:
            await api.files.list(after="file-1")
        assert refused.value.param == "after"


async def test_what_is_no_file_for_a_batch_is_refused_by_name(serve: Serve, tmp_path: Path) -> None:
    async with batch_server(serve, ScriptedClient(), tmp_path) as server, server.client() as api:
        with pytest.raises(openai.BadRequestError, match="'fine-tune' are of no use") as refused:
            await api.files.create(file=b"x", purpose="fine-tune")
        assert refused.value.param == "purpose"
        with pytest.raises(openai.BadRequestError) as refused:
            await api.files.create(
                file=b"x",
                purpose="batch",
                expires_after={"anchor": "created_at", "seconds": 5},
            )
        assert refused.value.param == "expires_after[seconds]"
        with pytest.raises(openai.APIStatusError, match="larger than 1048576 bytes") as large:
            await api.files.create(file=b"x" * (1 << 20 | 1), purpose="batch")
        assert large.value.status_code == 413
        assert [file async for file in api.files.list()] == []
    assert not (tmp_path / "files").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not whole"),
        (b"{}", "cannot be read"),
        (PURPOSE + FILE, "not whole"),
        (PURPOSE + END, "Missing required parameter: 'file'"),
        (FILE + END, "Missing required parameter: 'purpose'"),
        (PURPOSE + FILE + FILE + END, "two parts called 'file'"),
        (PURPOSE * 33 + END, "may have 32 parts"),
        (PURPOSE.replace(b"batch", b"b" * 5000) + END, "may have 4096 bytes"),
        (PURPOSE.replace(b"form-data", b"form-data; x=" + b"x" * 5000) + END, "cannot be read"),
    ],
)
async def test_a_form_that_is_none(serve: Serve, tmp_path: Path, body: bytes, words: str) -> None:
    async with (
        batch_server(serve, ScriptedClient(), tmp_path) as server,
        httpx.AsyncClient(base_url=server.url, headers=KEY) as http,
    ):
        refused = await http.post("/v1/files", content=body, headers=FORM)
    assert (refused.status_code, words in refused.json()["error"]["message"]) == (400, True)
    assert not (tmp_path / "files").exists()


async def test_a_form_in_any_order_and_in_small_pieces(serve: Serve, tmp_path: Path) -> None:
    whole = FILE + PURPOSE + END + b"epilogue"

    async def pieces():  # type: ignore[no-untyped-def] # of bytes
        for at in range(len(whole)):
            yield whole[at : at + 1]

    async with (
        batch_server(serve, ScriptedClient(), tmp_path) as server,
        httpx.AsyncClient(base_url=server.url, headers=KEY) as http,
    ):
        taken = await http.post("/v1/files", content=pieces(), headers=FORM)
        assert taken.status_code == 200, taken.text
        content = await http.get(f"/v1/files/{taken.json()['id']}/content")
        head = await http.head(f"/v1/files/{taken.json()['id']}/content")
    assert (content.content, content.headers["content-type"]) == (
        b"one",
        "application/octet-stream",
    )
    assert (head.headers["content-length"], head.content) == ("3", b"")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 400),
        ({"Content-Type": "multipart/form-data"}, 400),
        ({**FORM, "Content-Encoding": "gzip"}, 415),
        ({**FORM, "Origin": "https://elsewhere.example"}, 403),
        ({**FORM, "Authorization": "Bearer guess"}, 401),
    ],
)
async def test_what_is_not_sent_as_a_form_of_ours(
    serve: Serve, tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with (
        batch_server(serve, ScriptedClient(), tmp_path) as server,
        httpx.AsyncClient(base_url=server.url, headers=KEY) as http,
    ):
        body = PURPOSE + FILE + END
        refused = await http.post("/v1/files", content=body, headers=headers)
    assert refused.status_code == status
    assert "message" in refused.json()["error"]


async def test_a_page_of_this_host_may_send_a_form(serve: Serve, tmp_path: Path) -> None:
    async with (
        batch_server(serve, ScriptedClient(), tmp_path) as server,
        httpx.AsyncClient(base_url=server.url, headers=KEY) as http,
    ):
        own = {**FORM, "Origin": server.url}
        taken = await http.post("/v1/files", content=PURPOSE + FILE + END, headers=own)
    assert taken.status_code == 200


async def test_an_upload_that_breaks_off_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    async with batch_server(serve, ScriptedClient(), tmp_path, 8 << 20) as server:
        host, port = server.url.removeprefix("http://").split(":")
        _reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer ann\r\n"
        length = f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: 4000000\r\n\r\n"
        writer.write((head + length).encode() + PURPOSE + FILE[:-2] + b"x" * (2 << 20))
        await writer.drain()
        folder = tmp_path / "files"
        while not folder.exists():
            await asyncio.to_thread(folder.exists)
        writer.close()
        async with server.client() as api:
            while [*folder.iterdir()]:
                assert [file async for file in api.files.list()] == []


async def test_without_room_for_files_there_are_none() -> None:
    async with http_to(create_app(gateway_around(ScriptedClient(*ANSWER)))) as http:
        for method, path in [
            ("GET", "/v1/files"),
            ("POST", "/v1/files"),
            ("GET", "/v1/batches/batch_1"),
        ]:
            refused = await http.request(method, path)
            assert refused.status_code == 403
            assert "--files-bytes" in refused.json()["error"]["message"]
