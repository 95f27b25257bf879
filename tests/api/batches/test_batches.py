"""Batches through the unmodified `openai` client."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.errors import PromptTooLong, StreamGone
from appliance.protocol.events import Delta, EmbedResult, Event, Started
from tests.api.batches.running import (
    AWAIT_S,
    CHAT,
    batch_server,
    begin,
    chat_line,
    ended,
    line,
    results,
)
from tests.api.resumable_scripts import ScriptsClient
from tests.api.scripted_client import ANSWER, ANSWER_USAGE, ScriptedClient
from tests.api.serving import Serve

HELLO = [{"role": "user", "content": "Hello"}]


async def test_a_batch_from_its_file_to_its_results(serve: Serve, tmp_path: Path) -> None:
    client = ScriptedClient(*ANSWER)
    async with batch_server(serve, client, tmp_path) as server, server.client() as api:
        lines = [
            chat_line("one", max_tokens=8),
            chat_line("two", temperature=3),
            chat_line("three", model="gpt-9"),
            chat_line("four", stream=True, n=2),
        ]
        batch = await begin(api, lines)
        assert (batch.object, batch.status, batch.completion_window) == (
            "batch",
            "validating",
            "24h",
        )
        assert batch.expires_at == batch.created_at + 86_400
        batch = await ended(api, batch)
        assert batch.status == "completed"
        assert batch.request_counts is not None
        assert batch.request_counts.model_dump() == {"completed": 2, "failed": 2, "total": 4}
        assert None not in (batch.in_progress_at, batch.finalizing_at, batch.completed_at)
        output = await results(api, batch.output_file_id)
        errors = await results(api, batch.error_file_id)
    assert [*output] == ["one", "four"]
    first = output["one"]
    assert (first["error"], first["response"]["status_code"]) == (None, 200)
    assert first["id"].startswith("batch_req_")
    body = first["response"]["body"]
    assert (body["object"], body["usage"]) == ("chat.completion", ANSWER_USAGE)
    assert body["choices"][0]["message"]["content"] == "It was a café…"
    assert len(output["four"]["response"]["body"]["choices"]) == 2
    assert [*errors] == ["two", "three"]
    assert errors["two"]["error"] is None
    assert errors["two"]["response"]["status_code"] == 400
    assert errors["two"]["response"]["body"]["error"]["param"] == "temperature"
    assert errors["three"]["response"]["status_code"] == 404
    assert errors["three"]["response"]["body"]["error"]["code"] == "model_not_found"
    assert len(client.requests) == 3
    assert client.requests[0].max_tokens == 8


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        ("/v1/completions", {"prompt": "Once"}, "text_completion"),
        ("/v1/responses", {"input": "Once"}, "response"),
        ("/v1/embeddings", {"input": "Once"}, "list"),
    ],
)
async def test_other_endpoints(
    serve: Serve, tmp_path: Path, endpoint: str, body: dict[str, str], kind: str
) -> None:
    client = ScriptedClient(*ANSWER)
    client.embedded = EmbedResult(1, struct.pack("<f", 0.5), 1, 3)
    async with batch_server(serve, client, tmp_path) as server, server.client() as api:
        lines = [line("one", endpoint, body), line("two", endpoint, {})]
        batch = await ended(api, await begin(api, lines, endpoint))
        output = await results(api, batch.output_file_id)
        errors = await results(api, batch.error_file_id)
    assert output["one"]["response"]["body"]["object"] == kind
    refused = errors["two"]["response"]["body"]["error"]
    assert refused["code"] == "missing_required_parameter"


async def test_what_the_model_refuses_is_the_lines_result(serve: Serve, tmp_path: Path) -> None:
    client = ScriptedClient(PromptTooLong.of(9000, 8191))
    async with batch_server(serve, client, tmp_path) as server, server.client() as api:
        batch = await ended(api, await begin(api, [chat_line("one")]))
        errors = await results(api, batch.error_file_id)
    assert errors["one"]["response"]["body"]["error"]["code"] == "context_length_exceeded"


async def test_what_breaks_unforeseen_is_the_lines_result(serve: Serve, tmp_path: Path) -> None:
    client = ScriptedClient(*ANSWER[:2], RuntimeError("secret"))
    async with batch_server(serve, client, tmp_path) as server, server.client() as api:
        batch = await ended(api, await begin(api, [chat_line("one")]))
        errors = await results(api, batch.error_file_id)
    assert errors["one"]["response"]["status_code"] == 500
    assert "secret" not in str(errors)


async def test_a_file_that_is_no_batch_fails_with_its_lines(serve: Serve, tmp_path: Path) -> None:
    async with (
        batch_server(serve, ScriptedClient(*ANSWER), tmp_path) as server,
        server.client() as api,
    ):
        lines = [
            chat_line("one"),
            "{",
            "[1]",
            {"method": "POST"},
            {**chat_line("one"), "method": "GET"},
            line("two", "/v1/completions", {}),
            {**chat_line("three"), "body": "x"},
            chat_line("one"),
            chat_line(""),
        ]
        batch = await ended(api, await begin(api, lines))
    assert (batch.status, batch.failed_at is None) == ("failed", False)
    assert batch.errors is not None
    assert [(each.line, each.code, each.param) for each in batch.errors.data or []] == [
        (2, "invalid_json_line", None),
        (3, "invalid_json_line", None),
        (4, "missing_required_parameter", "custom_id"),
        (5, "invalid_method", "method"),
        (6, "mismatched_endpoint", "url"),
        (7, "missing_required_parameter", "body"),
        (8, "duplicate_custom_id", "custom_id"),
        (9, "invalid_custom_id", "custom_id"),
    ]


async def test_a_running_line_gives_way_and_goes_on_where_it_was(
    serve: Serve, tmp_path: Path
) -> None:
    gate = asyncio.Event()
    letters = [Delta(request_id=1, text=letter, num_tokens=1) for letter in "abc"]
    line_script = (Started(1, 5), *letters[:2], gate, letters[2], ANSWER[-1])
    client = ScriptsClient(line_script, ANSWER)
    async with batch_server(serve, client, tmp_path) as server, server.client() as api:
        batch = await begin(api, [chat_line("one")])
        while not client.requests:
            await api.batches.retrieve(batch.id)
        player = client._players[client.requests[0].resume_id]
        await asyncio.wait_for(player.reached_wait.wait(), AWAIT_S)
        answered = await api.chat.completions.create(model="novels", messages=HELLO)
        assert answered.choices[0].message.content == "It was a café…"
        batch = await ended(api, batch)
        output = await results(api, batch.output_file_id)
    assert output["one"]["response"]["body"]["choices"][0]["message"]["content"] == "abc"
    assert len(client.requests) == 2  # the line was not begun anew,
    assert client.num_closed == 3  # but left once: nothing was computed for it meanwhile


class ForgetfulClient(ScriptsClient):
    """As one whose requests were not begun when they were left."""

    async def resume(self, resume_id: str) -> AsyncIterator[Event]:
        raise StreamGone.unknown()
        yield


async def test_a_line_that_cannot_go_on_is_begun_anew(serve: Serve, tmp_path: Path) -> None:
    client = ForgetfulClient((Started(1, 5), asyncio.Event()), ANSWER, ANSWER)
    async with batch_server(serve, client, tmp_path) as server, server.client() as api:
        batch = await begin(api, [chat_line("one")])
        while not client.requests:
            await api.batches.retrieve(batch.id)
        player = client._players[client.requests[0].resume_id]
        await asyncio.wait_for(player.reached_wait.wait(), AWAIT_S)
        await api.chat.completions.create(model="novels", messages=HELLO)
        batch = await ended(api, batch)
        output = await results(api, batch.output_file_id)
    assert output["one"]["response"]["body"]["usage"] == ANSWER_USAGE
    assert len(client.requests) == 3


async def test_cancelling_forgets_what_runs(serve: Serve, tmp_path: Path) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event())
    async with batch_server(serve, client, tmp_path) as server, server.client() as api:
        batch = await begin(api, [chat_line("one"), chat_line("two")])
        await asyncio.wait_for(client.reached_wait.wait(), AWAIT_S)
        cancelling = await api.batches.cancel(batch.id)
        assert (cancelling.status, cancelling.cancelling_at is None) == ("cancelling", False)
        batch = await ended(api, batch)
        errors = await results(api, batch.error_file_id)
        assert server.gateway.num_requests == 0
        url = "/v1/embeddings"
        done = await ended(api, await begin(api, [line("x", url, {})], url))
        with pytest.raises(openai.BadRequestError, match="completed cannot be cancelled"):
            await api.batches.cancel(done.id)
    assert (batch.status, batch.output_file_id) == ("cancelled", None)
    codes = {name: each["error"]["code"] for name, each in errors.items()}
    assert codes == {"one": "batch_cancelled", "two": "batch_cancelled"}
    assert errors["one"]["response"] is None


async def test_batches_are_their_callers_alone(serve: Serve, tmp_path: Path) -> None:
    async with (
        batch_server(serve, ScriptedClient(*ANSWER), tmp_path) as server,
        server.client() as ann,
        server.client("bob") as bob,
    ):
        ids = []
        for _ in range(3):
            ids.append((await begin(ann, [chat_line("one")])).id)
        done = await ended(ann, await ann.batches.retrieve(ids[0]))
        assert [batch.id async for batch in ann.batches.list(limit=2)] == ids[::-1]
        assert [batch.id async for batch in bob.batches.list()] == []
        for refused in (
            bob.batches.retrieve(done.id),
            bob.batches.cancel(done.id),
            bob.files.content(done.output_file_id or ""),
            bob.files.retrieve(done.input_file_id),
            bob.batches.create(
                input_file_id=done.input_file_id, endpoint=CHAT, completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                await refused


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"completion_window": 5}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
            "output_expires_after.seconds",
        ),
        ({"input_file_id": None}, "input_file_id"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_by_name(
    serve: Serve, tmp_path: Path, asked: dict[str, Any], param: str
) -> None:
    right = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}
    async with (
        batch_server(serve, ScriptedClient(), tmp_path) as server,
        server.client() as api,
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await api.batches.create(**{**right, **asked})
    assert refused.value.param == param


async def test_windows_metadata_and_lifetimes(serve: Serve, tmp_path: Path) -> None:
    async with (
        batch_server(serve, ScriptedClient(*ANSWER), tmp_path) as server,
        server.client() as api,
    ):
        file = await api.files.create(
            file=("lines.jsonl", json.dumps(chat_line("one")).encode()), purpose="batch"
        )
        batch = await ended(
            api,
            await api.batches.create(
                input_file_id=file.id,
                endpoint=CHAT,
                completion_window="1h30m",  # type: ignore[arg-type] # as ours takes it
                metadata={"for": "ann"},
                output_expires_after={"anchor": "created_at", "seconds": 3600},
            ),
        )
        output = await api.files.retrieve(batch.output_file_id or "")
    assert (batch.completion_window, batch.metadata) == ("1h30m", {"for": "ann"})
    assert batch.expires_at == batch.created_at + 5400
    assert output.expires_at == output.created_at + 3600
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
