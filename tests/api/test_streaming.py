"""A stream comes as it is made, breaks with an error event,
and stops when nobody listens.
"""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from appliance.api.app import create_app
from appliance.api.openai.chat import ChatFormat
from appliance.api.openai.completions import CompletionFormat
from appliance.api.openai.wire import CompletionHeader
from appliance.errors import WorkerLost
from appliance.gateway.router import ServedModel
from appliance.protocol.events import Delta, Started
from tests.api.scripted_client import (
    ANSWER,
    CREATED,
    ScriptedClient,
    gateway_around,
    http_around,
)
from tests.api.serving import Serve

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
PATH = "/v1/chat/completions"
PATIENCE_S = 30


async def test_chunks_are_written_as_they_come(serve: Serve) -> None:
    go_on = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], go_on, *ANSWER[2:])
    async with (
        httpx.AsyncClient(base_url=serve(create_app(gateway_around(client)))) as http,
        http.stream("POST", PATH, json={**CHAT, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        received = [await anext(lines) for _ in range(3)]
        assert "It was" in received[2]  # and the model has not said more yet
        go_on.set()
        received += [line async for line in lines]
    assert received[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize(
    "failure", [WorkerLost("The worker died."), RuntimeError("the secret detail")]
)
async def test_a_stream_that_breaks_ends_with_an_error_event_and_without_done(
    failure: Exception,
) -> None:
    client = ScriptedClient(
        Started(1, 5), Delta(request_id=1, text="It was", num_tokens=2), failure
    )
    async with http_around(client) as http:
        response = await http.post(PATH, json={**CHAT, "stream": True})
    assert response.status_code == 200
    *_, last, end = response.text.split("\n\n")
    assert end == ""
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["type"] == "server_error"
    assert error["code"] == ("worker_lost" if isinstance(failure, WorkerLost) else "internal_error")
    assert "secret" not in response.text
    assert "[DONE]" not in response.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("num_events_before", [0, 1, 2])
async def test_a_client_that_leaves_ends_the_request(
    serve: Serve, stream: bool, num_events_before: int
) -> None:
    """Whatever the server is waiting for: the first event, more of them, or the end of
    a whole answer.
    """
    client = ScriptedClient(*ANSWER[:num_events_before], asyncio.Event())
    gateway = gateway_around(client)
    base_url = serve(create_app(gateway))
    host, port = base_url.removeprefix("http://").split(":")
    body = json.dumps({**CHAT, "stream": stream}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: "
        f"application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    _reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + body)
    await asyncio.wait_for(client.reached_wait.wait(), PATIENCE_S)
    assert gateway.num_requests == 1
    assert not client.closed.is_set()
    writer.close()
    await writer.wait_closed()
    await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
    assert await gateway.drain(PATIENCE_S)
    assert len(client.requests) == 1


async def test_stopping_the_server_lets_a_stream_finish(serve: Serve) -> None:
    go_on = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], go_on, *ANSWER[2:])
    gateway = gateway_around(client)
    async with httpx.AsyncClient(base_url=serve(create_app(gateway))) as http:
        streaming = asyncio.create_task(http.post(PATH, json={**CHAT, "stream": True}))
        await asyncio.wait_for(client.reached_wait.wait(), PATIENCE_S)
        drained = asyncio.create_task(gateway.drain(PATIENCE_S))
        refused = await http.post(PATH, json=CHAT)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        assert not drained.done()
        go_on.set()
        assert (await streaming).text.endswith("data: [DONE]\n\n")
        assert await drained


def test_no_chunk_comes_before_the_first_token() -> None:
    """Load generators (vLLM's, llama-benchy) time the first one for it."""
    served = ServedModel(id="novels", client=ScriptedClient(), created=CREATED)
    header = CompletionHeader("id", CREATED, served)
    chat, text = ChatFormat(header), CompletionFormat(header=header, echoed=("Hi",))
    for wire_format in (chat, text):
        assert [len(wire_format.items(0, event)) for event in ANSWER] == [0, 2, 0, 1, 1]
