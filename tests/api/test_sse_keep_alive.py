"""A stream of server-sent events is never silent for long, whatever it waits for, and no
client takes the comments for events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.app import create_app
from appliance.errors import QueueFull
from tests.api.other_wire_format import Lines, add_other_format
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_around
from tests.api.serving import Serve
from tests.api.stream_events import events_of

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"messages": HELLO, "stream": True}
COMMENT = ": keep-alive"
SOON_S = 0.02
PATIENCE_S = 30


@asynccontextmanager
async def streamed(
    serve: Serve, client: ScriptedClient, path: str = PATH, body: Any = CHAT
) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of the stream at `path`."""
    app = create_app(gateway_around(client), sse_keep_alive_s=SOON_S)
    async with (
        httpx.AsyncClient(base_url=serve(app)) as http,
        http.stream("POST", path, json=body) as response,
    ):
        assert response.status_code == 200
        yield response.aiter_lines()


async def after_comments(lines: AsyncIterator[str], gate: asyncio.Event) -> list[str]:
    """Opens the gate after the third comment in a row; what comes beside them."""

    async def read() -> list[str]:
        num_comments = 0
        rest = []
        async for line in lines:
            if line == COMMENT:
                num_comments += 1
                if num_comments == 3:
                    gate.set()
            elif line:
                rest.append(line)
        assert num_comments >= 3
        return rest

    return await asyncio.wait_for(read(), PATIENCE_S)


class GateAfterComments:
    """ASGI middleware: opens the gate when three comments were sent."""

    def __init__(self, app: ASGIApp, gate: asyncio.Event) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_comments = 0

        async def watched(message: Message) -> None:
            nonlocal num_comments
            await send(message)
            num_comments += message.get("body", b"").startswith(COMMENT.encode())
            if num_comments == 3:
                self._gate.set()

        await self._app(scope, receive, watched)


async def test_comments_come_before_the_request_is_accepted(serve: Serve) -> None:
    gate = asyncio.Event()
    async with streamed(serve, ScriptedClient(gate, *ANSWER)) as lines:
        rest = await after_comments(lines, gate)
    assert rest[-1] == "data: [DONE]"


async def test_comments_come_while_a_stream_is_silent_and_change_nothing_else(serve: Serve) -> None:
    gate = asyncio.Event()
    async with streamed(serve, ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])) as lines:
        events = [json.loads(line[6:]) for line in (await after_comments(lines, gate))[:-1]]
    async with http_around(ScriptedClient(*ANSWER)) as http:
        never_silent = events_of((await http.post(PATH, json=CHAT)).text)
    assert [event["choices"] for event in events] == [
        event["choices"] for event in never_silent[:-1]
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, CHAT),
        ("/v1/completions", {"prompt": "Once", "stream": True}),
        ("/v1/responses", {"input": "Hello", "stream": True}),
        ("/infill", {"input_prefix": "a", "input_suffix": "b", "stream": True}),
    ],
)
async def test_a_refusal_after_the_first_comment_is_an_event(
    serve: Serve, path: str, body: Any
) -> None:
    gate = asyncio.Event()
    async with streamed(serve, ScriptedClient(gate, QueueFull("It is full.")), path, body) as lines:
        rest = await after_comments(lines, gate)
    event = json.loads(rest[-1].removeprefix("data: "))
    assert event.get("response", event)["error"]["message"] == "It is full."
    assert len(rest) == (2 if "response" in event else 1)  # which is named


async def test_a_refusal_before_it_keeps_its_status(serve: Serve) -> None:
    app = create_app(gateway_around(ScriptedClient(QueueFull("full"))), sse_keep_alive_s=60)
    async with httpx.AsyncClient(base_url=serve(app)) as http:
        assert (await http.post(PATH, json=CHAT)).status_code == 429


@pytest.mark.parametrize("gate_at", [0, 1, 2])
async def test_openais_client_takes_no_comment_for_an_event(serve: Serve, gate_at: int) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:gate_at], gate, *ANSWER[gate_at:])
    app = create_app(gateway_around(client), sse_keep_alive_s=SOON_S)
    app.add_middleware(GateAfterComments, gate=gate)
    url = serve(app)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as api:
        # the status comes with a comment, or with the first event
        stream = await api.chat.completions.create(model="novels", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "It was a café…"


async def test_a_client_that_reads_no_comments_is_given_up(serve: Serve) -> None:
    """The server's own buffers hold thousands of them, so a send that never returns stands
    for full ones.
    """
    client = ScriptedClient(ANSWER[0], asyncio.Event())
    gateway = gateway_around(client)
    app = create_app(gateway, sse_keep_alive_s=SOON_S, client_timeout_s=0.1)

    async def stuck(message: Any) -> None:
        if message.get("body", b"").startswith(COMMENT.encode()):
            await asyncio.Event().wait()

    body = json.dumps(CHAT).encode()
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in messages:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "scheme": "http",
        "http_version": "1.1",
    }
    await asyncio.wait_for(app(scope, receive, stuck), PATIENCE_S)
    assert client.closed.is_set()
    assert await gateway.drain(PATIENCE_S)


async def test_what_has_no_comments_gets_none(serve: Serve) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(ANSWER[0], gate, *ANSWER[1:])
    gateway = gateway_around(client)
    app = create_app(gateway, sse_keep_alive_s=SOON_S)
    add_other_format(app, gateway, Lines())
    asyncio.get_running_loop().call_later(5 * SOON_S, gate.set)
    async with httpx.AsyncClient(base_url=serve(app)) as http:
        text = (await http.post("/api/generate", json={"prompt": "a", "stream": True})).text
    assert [json.loads(line)["done"] for line in text.splitlines()] == [False, False, True]


async def test_zero_means_never(serve: Serve) -> None:
    gate = asyncio.Event()
    app = create_app(
        gateway_around(ScriptedClient(ANSWER[0], gate, *ANSWER[1:])), sse_keep_alive_s=0
    )
    asyncio.get_running_loop().call_later(5 * SOON_S, gate.set)
    async with httpx.AsyncClient(base_url=serve(app)) as http:
        assert COMMENT not in (await http.post(PATH, json=CHAT)).text
