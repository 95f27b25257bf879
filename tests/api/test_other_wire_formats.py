"""Another wire format fits in: its errors have its shape at its paths, and any
transport takes its records as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.api.errors import ErrorShapes
from appliance.api.openai.errors import OPENAI_ERRORS
from appliance.api.transport.pump import pump
from appliance.api.transport.sse import ServerSentEvents
from appliance.api.transport.streamed_response import Framing
from appliance.api.transport.wire_format import StreamItem
from appliance.errors import PromptTooLong, WorkerLost
from appliance.gateway.accounts.caller import ANONYMOUS
from appliance.protocol.events import Delta, Route, Started
from appliance.protocol.requests import GenerateRequest, TextPrompt
from tests.api.other_wire_format import PLAIN_ERRORS, Lines, PieceFormat, add_other_format
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to

PATH = "/other/generate"
BROKEN = (Started(1, 1), Delta(request_id=1, text="It", num_tokens=1), WorkerLost("It died."))


def app_around(
    client: ScriptedClient, framing: Framing | None = None, keys: Sequence[str] = (), **options: Any
) -> FastAPI:
    gateway = gateway_around(client, keys)
    app = create_app(gateway, **options)
    add_other_format(app, gateway, framing or ServerSentEvents())
    return app


async def post(app: FastAPI, path: str = PATH, **body: Any) -> httpx.Response:
    async with http_to(app) as http:
        return await http.post(path, json=body)


# --- errors ---------------------------------------------------------------------------


def test_the_longest_claim_counts() -> None:
    shapes = ErrorShapes(default=OPENAI_ERRORS)
    for prefix in ("/api", "/v1/messages/", "/"):
        shapes.claim(prefix, PLAIN_ERRORS)
    shapes.claim("/api/openai", OPENAI_ERRORS)
    of_others = ("/api", "/api/chat", "/v1/messages", "/v1/messages/count", "/")
    assert {shapes.at(path) for path in of_others} == {PLAIN_ERRORS}
    of_openai = ("/apis", "/v1", "/v1/chat/completions", "/api/openai/chat", "", "/health")
    assert {shapes.at(path) for path in of_openai} == {OPENAI_ERRORS}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (PATH, {"prompt": "a", "novel": 1}, 400, "Unrecognized request argument supplied: 'novel'"),
        (PATH, {}, 400, "Missing required parameter: 'prompt'."),
        ("/other/nothing", {}, 404, "There is no such path: POST /other/nothing."),
        (PATH, {"prompt": "a" * 2000}, 413, "larger than 1000 bytes"),
    ],
)
async def test_a_refusal_has_the_shape_of_its_path(
    path: str, body: dict[str, Any], status: int, message: str
) -> None:
    app = app_around(ScriptedClient(*ANSWER), max_body_bytes=1000, strict_parameters=True)
    response = await post(app, path, **body)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert message in response.json()["error"]


async def test_a_guard_and_a_gateway_refuse_in_the_shape_of_the_path() -> None:
    response = await post(app_around(ScriptedClient(*ANSWER), keys=["secret"]), prompt="a")
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert "needs an API key" in response.json()["error"]
    response = await post(app_around(ScriptedClient(PromptTooLong.of(9, 8))), prompt="a")
    assert response.status_code == 400
    assert response.json()["error"].startswith("This model's maximum context length is 9 tokens")
    response = await post(app_around(ScriptedClient(RuntimeError("secret"))), prompt="a")
    assert response.status_code == 500
    assert "log has the details" in response.json()["error"]


async def test_openai_keeps_its_own_shape_beside_it() -> None:
    app = app_around(ScriptedClient(*ANSWER), strict_parameters=True)
    response = await post(app, "/v1/completions", prompt="a", novel=1)
    assert response.json()["error"]["code"] == "unknown_parameter"


def test_the_description_has_each_formats_errors() -> None:
    described = app_around(ScriptedClient()).openapi()
    refused = described["paths"][PATH]["post"]["responses"]["4XX"]
    assert refused["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Response.PlainError"
    }
    assert {"Response.PlainError", "Response.OpenAIError"} <= described["components"][
        "schemas"
    ].keys()


# --- transports -----------------------------------------------------------------------


async def test_whole() -> None:
    response = await post(app_around(ScriptedClient(*ANSWER)), prompt="Once")
    assert response.json() == {"text": "It was a café…", "done": True}


@pytest.mark.parametrize(
    ("framing", "media_type", "body"),
    [
        (
            ServerSentEvents(),
            "text/event-stream; charset=utf-8",
            'data: {"text":"It was","done":false}\n\n'
            'data: {"text":" a café…","done":false}\n\n'
            'event: done\ndata: {"text":"","done":true}\n\n'
            "data: that was 1\n\n",
        ),
        (
            Lines(),
            "application/x-ndjson",
            '{"text":"It was","done":false}\n'
            '{"text":" a café…","done":false}\n'
            '{"text":"","done":true}\n',
        ),
    ],
)
async def test_one_format_in_two_framings(framing: Framing, media_type: str, body: str) -> None:
    app = app_around(ScriptedClient(*ANSWER), framing)
    response = await post(app, prompt="Once", stream=True)
    assert response.headers["content-type"] == media_type
    assert response.content.decode() == body


async def test_a_stream_that_breaks_ends_with_the_formats_error() -> None:
    response = await post(app_around(ScriptedClient(*BROKEN), Lines()), prompt="Once", stream=True)
    assert response.status_code == 200
    assert response.text.splitlines()[1:] == ['{"error":"It died."}']


class ListSink:
    """As a WebSocket would be one: it is told when to begin, and takes items."""

    def __init__(self) -> None:
        self.log: list[StreamItem | str] = []

    async def start(self, unenforced: Sequence[str], route: Route | None = None) -> None:
        assert not unenforced
        assert route is None
        self.log.append("start")

    async def write(self, items: Sequence[StreamItem]) -> None:
        assert items
        self.log += items


async def test_a_sink_of_any_kind_takes_the_items() -> None:
    gateway = gateway_around(ScriptedClient(*BROKEN))
    request = GenerateRequest(prompt=TextPrompt("Once"))
    model = gateway.router.resolve(None)
    sink = ListSink()
    await pump(gateway.generate_choices(ANONYMOUS, model, [request]), PieceFormat(), sink)
    start, piece, error = sink.log
    assert start == "start"
    assert (piece, error) == (
        *PieceFormat().items(0, BROKEN[1]),
        PLAIN_ERRORS.record_type("It died."),
    )


async def test_a_refusal_before_the_first_event_is_raised_and_nothing_started() -> None:
    gateway = gateway_around(ScriptedClient(PromptTooLong.of(9, 8)))
    request = GenerateRequest(prompt=TextPrompt("Once"))
    sink = ListSink()
    events = gateway.generate_choices(ANONYMOUS, gateway.router.resolve(None), [request])
    with pytest.raises(PromptTooLong):
        await pump(events, PieceFormat(), sink)
    assert sink.log == []
