"""A stream of lines is never silent for long, and no client takes notice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import ollama
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.api.app import create_app
from appliance.errors import QueueFull
from tests.api.ollama.talk import timed
from tests.api.scripted_client import ANSWER, ScriptedClient, Step, gateway_around
from tests.api.serving import Serve

SOON_S = 0.02
NUM_SPACES = 3
CHAT = {"model": "novels", "messages": [{"role": "user", "content": "Hello"}]}


class GateAfterSpaces:
    """ASGI middleware: opens the gate when some were sent."""

    def __init__(self, app: ASGIApp, gate: asyncio.Event) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        num_spaces = 0

        async def watched(message: Message) -> None:
            nonlocal num_spaces
            await send(message)
            num_spaces += message.get("body", b"") == b" "
            if num_spaces == NUM_SPACES:
                self._gate.set()

        await self._app(scope, receive, watched)


def url_of(serve: Serve, gate: asyncio.Event, *steps: Step) -> str:
    app = create_app(gateway_around(ScriptedClient(*steps)), sse_keep_alive_s=SOON_S)
    app.add_middleware(GateAfterSpaces, gate=gate)
    return serve(app)


def records(text: str) -> list[Any]:
    """Each line as strict clients read it."""
    assert text.endswith("}\n"), "nothing stands behind the last line"
    found = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    return [{**each, "created_at": None} for each in found]


@pytest.mark.parametrize("gate_at", [0, 1, 2])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_spaces_stand_in_front_of_the_next_line(
    serve: Serve, path: str, gate_at: int
) -> None:
    gate = asyncio.Event()
    events = timed(ANSWER)
    url = url_of(serve, gate, *events[:gate_at], gate, *events[gate_at:])
    body = {**CHAT, "prompt": "Hello"}
    async with httpx.AsyncClient(base_url=url) as http:
        response = await http.post(path, json=body)
        assert response.text.count(" " * NUM_SPACES) >= 1
        assert response.headers["content-type"] == "application/x-ndjson"
        found = records(response.text)
        never_silent = records((await http.post(path, json=body)).text)
    for last in (found[-1], never_silent[-1]):
        assert last["done"]
        del last["total_duration"], last["load_duration"]
    assert found == never_silent


async def test_ollamas_client_does_not_see_them(serve: Serve) -> None:
    gate = asyncio.Event()
    client = ollama.AsyncClient(url_of(serve, gate, gate, *timed(ANSWER)))
    async with client:
        stream = await client.chat("novels", CHAT["messages"], stream=True)
        pieces = [piece.message.content async for piece in stream]
    assert "".join(pieces) == "It was a café…"


async def test_a_refusal_after_the_first_space_is_a_line(serve: Serve) -> None:
    gate = asyncio.Event()
    client = ollama.AsyncClient(url_of(serve, gate, gate, QueueFull("It is full.")))
    async with client:
        stream = await client.chat("novels", CHAT["messages"], stream=True)
        with pytest.raises(ollama.ResponseError, match="It is full"):
            await anext(stream)
