"""`x-request-id`: taken or made, in every response and in every log line of the request;
and the line that each request has at its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

import httpx
import pytest

from appliance.api.app import create_app
from appliance.api.door.access_log import AccessLog
from appliance.api.door.request_ids import origin_of
from appliance.errors import WorkerLost
from appliance.gateway.accounts.caller import ANONYMOUS
from appliance.gateway.telemetry.context import RequestContext
from appliance.logs import FIELDS, REQUEST_ID
from appliance.protocol.events import Started
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to
from tests.api.serving import Serve
from tests.api.websocket.asgi_socket import connected
from tests.gateway.telemetry_requests import REQUEST

CHAT = {"messages": [{"role": "user", "content": "What was it?"}]}
NAMED = {"x-request-id": "mine:1"}


class Lines(logging.Handler):
    """What is logged, with the id that the line would have."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.accessed: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append((record.getMessage(), REQUEST_ID.get()))
        if record.name == "appliance.access":
            self.accessed.append(getattr(record, FIELDS))


@pytest.fixture
def lines() -> Any:
    logger, handler = logging.getLogger("appliance"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("sent", ["mine:1", "7d3f6c1e-0000-4000-8000-00000000000f", "x" * 128])
async def test_a_clients_id_comes_back(sent: str) -> None:
    async with http_to(create_app(gateway_around(ScriptedClient(*ANSWER)))) as http:
        for path, body in (
            ("/v1/chat/completions", CHAT),
            ("/v1/chat/completions", {}),
            ("/x", {}),
        ):
            response = await http.post(path, json=body, headers={"x-request-id": sent})
            assert response.headers.get_list("x-request-id") == [sent]


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "a\tb", "ä"])
def test_what_could_not_stand_in_a_log_line_is_replaced(sent: str) -> None:
    made = origin_of([(b"x-request-id", sent.encode())]).request_id
    assert re.fullmatch(r"req_[0-9a-f]{24}", made)


async def test_refusals_at_every_door_have_one() -> None:
    app = create_app(gateway_around(ScriptedClient(), keys=["secret"]), allowed_hosts=["a.example"])
    async with http_to(app) as http:
        for headers, status in (
            ({"host": "evil.example"}, 403),
            ({}, 401),
            ({"origin": "https://evil.example", "access-control-request-method": "POST"}, 403),
        ):
            method = "OPTIONS" if "origin" in headers else "POST"
            response = await http.request(method, "/v1/chat/completions", headers=headers)
            assert response.status_code == status
            assert response.headers["x-request-id"].startswith("req_")


async def test_streams_have_one() -> None:
    async with http_to(create_app(gateway_around(ScriptedClient(*ANSWER)))) as http:
        streamed = await http.post(
            "/v1/chat/completions", json={**CHAT, "stream": True}, headers=NAMED
        )
    assert streamed.headers["x-request-id"] == "mine:1"


async def test_every_log_line_of_a_request_has_its_id(lines: Lines) -> None:
    client = ScriptedClient(Started(1, 5), ANSWER[1], WorkerLost("It died."))
    async with http_to(create_app(gateway_around(client))) as http:
        await http.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=NAMED)
        await http.post("/v1/chat/completions", json={**CHAT, "colour": 1}, headers=NAMED)
    assert len(lines.found) == 5
    assert {request_id for _, request_id in lines.found} == {"mine:1"}
    assert any("a stream broke" in message for message, _ in lines.found)
    assert any("parameters that this server does not know" in message for message, _ in lines.found)


async def test_the_line_of_an_answer(lines: Lines) -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys=["secret"]))
    async with http_to(app, authorization="Bearer secret") as http:
        await http.post("/v1/chat/completions?k=v", json={**CHAT, "n": 2}, headers=NAMED)
    [line] = lines.accessed
    assert line.pop("duration_ms") >= line.pop("first_token_ms") >= 0
    assert line.pop("caller").startswith("key-")
    assert line == {
        "request": "POST /v1/chat/completions",
        "status": 200,
        "model": "novels",
        "outcome": "stop",
        "answers": 2,
        "prompt_tokens": 5,
        "cached_tokens": 2,
        "completion_tokens": 10,
    }
    message = lines.found[-1][0]
    assert message.startswith("POST /v1/chat/completions 200, caller=key-")
    assert "model=novels, outcome=stop, answers=2, prompt_tokens=5" in message
    assert "What was it" not in message


async def test_prompts_are_logged_only_if_asked_for(lines: Lines) -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER)), logs_prompts=True)
    async with http_to(app) as http:
        await http.post("/v1/chat/completions", json=CHAT)
        await http.post("/v1/completions", json={"prompt": "Once\n" * 10_000})
    chat, completion = (line["prompt"] for line in lines.accessed)
    assert "What was it?" in chat
    assert completion.startswith(json.dumps(["TextPrompt", "Once\n"])[:-2].replace(", ", ","))
    assert len(completion) == 16 << 10


async def test_a_client_that_leaves_has_no_status(serve: Serve, lines: Lines) -> None:
    client = ScriptedClient(asyncio.Event())
    gateway = gateway_around(client)
    async with httpx.AsyncClient(base_url=serve(create_app(gateway))) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        await client.reached_wait.wait()
        asking.cancel()
        await client.closed.wait()
    assert await gateway.drain(20.0)
    while not lines.accessed:
        await asyncio.sleep(0)
    [line] = lines.accessed
    assert ("status" in line, line["outcome"]) == (False, "cancelled")
    assert lines.found[-1][0].startswith("POST /v1/chat/completions no response, ")


async def test_probes_are_not_logged_and_paths_cannot_break_a_line(lines: Lines) -> None:
    async with http_to(create_app(gateway_around(ScriptedClient()))) as http:
        await http.get("/health")
        await http.get("/metrics")
        await http.get("/a%0Ab")
    assert [line["request"] for line in lines.accessed] == ["GET /a%0Ab"]


async def test_messages_on_a_websocket_have_an_id_and_a_line_each(lines: Lines) -> None:
    app = create_app(gateway_around(ScriptedClient(*ANSWER)))
    async with connected(app) as socket:
        for name in ("a", "b"):
            body = CHAT if name == "a" else {"colour": 1}
            socket.say({"type": "chat", "id": name, "body": body})
            assert (await socket.hear_to_end(name))[0][
                "request_id"
            ] == f"socket.{'ab'.index(name) + 1}"
    requests = [(line["request"], line["status"]) for line in lines.accessed]
    assert requests == [
        ("WEBSOCKET /v1/stream chat", 200),
        ("WEBSOCKET /v1/stream chat", 400),
        ("WEBSOCKET /v1/stream", 101),
    ]
    assert lines.accessed[0]["completion_tokens"] == 5
    ids = [request_id for message, request_id in lines.found if message.startswith("WEBSOCKET")]
    assert ids == ["socket.1", "socket.2", "socket"]


async def test_what_outlives_a_request_is_not_kept_with_it() -> None:
    context = RequestContext(origin=origin_of([]))
    AccessLog(includes_prompts=False).write_message("x", context, 200, 0.1)
    context.begin()
    gateway = gateway_around(ScriptedClient(*ANSWER))
    model = gateway.router.resolve(None)
    async with gateway.generate(ANONYMOUS, model, REQUEST) as events:
        _ = [event async for event in events]
    assert context.summaries == []


def test_a_trace_is_taken_where_it_is_one() -> None:
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    origin = origin_of([(b"traceparent", parent), (b"tracestate", b"a=1")])
    assert (origin.traceparent, origin.tracestate) == (parent.decode(), "a=1")
    for wrong in (b"", b"00-xyz", parent[:-1], parent.upper()):
        origin = origin_of([(b"traceparent", wrong), (b"tracestate", b"a=1")])
        assert (origin.traceparent, origin.tracestate) == ("", "")
