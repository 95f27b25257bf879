"""Every route of the application, of whatever scope, is guarded: no key, no foreign
host, no body out of bounds gets past, and what is open stands in a table.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from starlette.types import Message

from appliance.api.app import create_app
from appliance.api.ollama.blobs import BLOB_PATHS
from appliance.api.openai.batches.files import FILE_PATHS
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.guards import ADMIN_PATHS, OPEN_PATHS
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import ANONYMOUS, Caller
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.observers import ObservableRequest, ObservedRequest
from appliance.gateway.router import Router, ServedModel
from tests.api.doors import Door, doors
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient, gateway_around, http_to

KEY = (b"authorization", b"Bearer secret")
HOST = (b"host", b"127.0.0.1:8080")
MAX_BODY_BYTES = 1000


async def enter(
    app: FastAPI,
    door: Door,
    *headers: tuple[bytes, bytes],
    messages: Sequence[Message] = (),
    extensions: Sequence[str] = (),
) -> list[Message]:
    """What the application sends there; the client sends `messages` and goes away."""
    first = {"http": "http.request", "websocket": "websocket.connect"}.get(door.scope_type, "")
    inbox: list[Message] = [{"type": first}, *messages]
    gone: Message = {"type": f"{door.scope_type}.disconnect", "code": 1000}
    sent: list[Message] = []

    async def receive() -> Message:
        return inbox.pop(0) if inbox else gone

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": door.scope_type,
        "path": door.path,
        "raw_path": door.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
        "extensions": {name: {} for name in extensions},
    }
    if door.scope_type == "http":
        scope |= {"method": door.method, "scheme": "http", "http_version": "1.1"}
    else:
        scope |= {"scheme": "ws", "subprotocols": []}
    await app(scope, receive, send)
    return sent


def refused_with(sent: list[Message], scope_type: str) -> object:
    """The status of a response,
    or the code with which a WebSocket was closed before it opened.
    """
    if scope_type == "http":
        return sent[0]["status"]
    assert [message["type"] for message in sent] == ["websocket.close"], sent
    return sent[0]["code"]


@functools.cache
def guarded_app(**options: Any) -> FastAPI:
    """With a WebSocket that somebody added and guarded nowhere."""
    app = create_app(gateway_around(ScriptedClient(*ANSWER), keys=["secret"]), **options)

    @app.websocket("/echo")
    async def echo(socket: WebSocket, caller: RequestCaller) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(f"{caller.id}: {text}")

    return app


PAGE = (b"origin", b"http://127.0.0.1:8080")
DOORS = [door.filled() for door in doors(guarded_app().routes)]


def test_every_kind_of_route_is_walked() -> None:
    assert {door.scope_type for door in DOORS} == {"http", "websocket"}
    assert {"/openapi.json", "/v1/chat/completions", "/v1/models/novels", "/echo"} <= {
        door.path for door in DOORS
    }
    assert OPEN_PATHS.keys() | ADMIN_PATHS.keys() <= {door.path for door in DOORS}


@pytest.mark.parametrize("door", DOORS, ids=str)
async def test_no_route_is_entered_without_a_key_but_the_open_ones(door: Door) -> None:
    for headers in ((HOST,), (HOST, (b"authorization", b"Bearer guess"))):
        status = refused_with(await enter(guarded_app(), door, *headers), door.scope_type)
        if door.path in OPEN_PATHS:
            assert status == 200
        else:
            assert status == {"http": 401, "websocket": 1008}[door.scope_type]


@pytest.mark.parametrize("door", DOORS, ids=str)
async def test_no_route_is_entered_by_a_foreign_name(door: Door) -> None:
    app = guarded_app(allowed_hosts=())
    foreign = (b"host", b"evil.example")
    status = refused_with(await enter(app, door, foreign, KEY), door.scope_type)
    assert status == {"http": 403, "websocket": 1008}[door.scope_type]


@pytest.mark.parametrize("door", DOORS, ids=str)
async def test_no_route_takes_a_body_out_of_bounds(door: Door) -> None:
    app = guarded_app(max_body_bytes=MAX_BODY_BYTES)
    if door.scope_type == "http":
        length = (b"content-length", b"%d" % (MAX_BODY_BYTES + 1))
        sent = await enter(app, door, HOST, KEY, PAGE, length)
        # A file may have any length, and is refused before anything is read: by its type, or
        # because this server keeps none.
        refused = {BLOB_PATHS: 400, FILE_PATHS: 403} if door.method == "POST" else {}
        found = (status for paths, status in refused.items() if door.path.startswith(paths))
        assert sent[0]["status"] == next(found, 413)
        return
    for field, data in (("text", "é" * 501), ("bytes", bytes(1001))):
        message = {"type": "websocket.receive", field: data}
        sent = await enter(app, door, HOST, KEY, messages=[message])
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
        assert sent[1]["code"] == 1009


async def test_a_scope_of_a_new_kind_is_not_let_through() -> None:
    for headers in ((HOST,), (HOST, KEY)):
        with pytest.raises(Exception, match=r"API key|no body is known"):
            await enter(guarded_app(), Door("novel", "/echo"), *headers)


async def test_a_websocket_with_a_key_is_opened_and_knows_who_asks() -> None:
    message = {"type": "websocket.receive", "text": "Hello"}
    opened, answered = await enter(
        guarded_app(), Door("websocket", "/echo"), HOST, KEY, messages=[message]
    )
    assert opened["type"] == "websocket.accept"
    assert answered["text"].startswith("key-")
    assert answered["text"].endswith(": Hello")


async def test_a_websocket_is_refused_with_a_body_where_the_server_can_send_one() -> None:
    sent = await enter(
        guarded_app(), Door("websocket", "/echo"), HOST, extensions=["websocket.http.response"]
    )
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 401
    assert b"invalid_api_key" in sent[1]["body"]


@pytest.mark.parametrize(
    ("origin", "is_taken"),
    [
        (None, True),
        (b"http://127.0.0.1:8080", True),
        (b"https://evil.example", False),
        (b"http://127.0.0.1:9", False),
        (b"null", False),
    ],
)
async def test_a_page_of_another_origin_opens_no_websocket(
    origin: bytes | None, is_taken: bool
) -> None:
    headers = [HOST, KEY] if origin is None else [HOST, KEY, (b"origin", origin)]
    sent = await enter(guarded_app(), Door("websocket", "/echo"), *headers)
    assert (sent[0]["type"] == "websocket.accept") is is_taken


async def test_an_allowed_page_opens_a_websocket() -> None:
    page = (b"origin", b"https://chat.example.org")
    app = guarded_app(allowed_origins=("https://chat.example.org",))
    sent = await enter(app, Door("websocket", "/echo"), HOST, KEY, page)
    assert sent[0]["type"] == "websocket.accept"


# --- who asks -------------------------------------------------------------------------


class Callers:
    """An observer that writes down for whom each request is."""

    def __init__(self) -> None:
        self.seen: list[Caller] = []

    def started(
        self, caller: Caller, _model_id: str, _request: ObservableRequest, /
    ) -> ObservedRequest:
        self.seen.append(caller)
        return _Ignored()


class _Ignored:
    def event(self, _message: object, /) -> None: ...

    def ended(self, _outcome: str, /) -> None: ...


def observed_app(callers: Callers, *keys: str) -> FastAPI:
    model = ServedModel(id="novels", client=ScriptedClient(*ANSWER), created=CREATED)
    return create_app(Gateway(Router([model]), Admission(keys), observers=[callers]))


BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
    ("/v1/completions", {"prompt": [1, 2], "echo": True}),
    ("/v1/responses", {"input": "Hello"}),
    ("/v1/embeddings", {"input": "Hello"}),
    ("/v1/rerank", {"query": "a", "documents": ["b"]}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    ("/tokenize", {"content": "a"}),
    ("/detokenize", {"tokens": [1]}),
    ("/apply-template", {"messages": [{"role": "user", "content": "Hello"}]}),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_whose_key_it_is_goes_with_the_request(path: str, body: dict[str, Any]) -> None:
    callers = Callers()
    app = observed_app(callers, "alices", "bobs")
    for key in ("alices", "bobs", "alices"):
        async with http_to(app, authorization=f"Bearer {key}") as http:
            await _post(http, path, body)
    alice, bob, again = (callers.seen[at] for at in (0, len(callers.seen) // 3, -1))
    assert alice == again != bob
    assert not {"alices", "bobs"} & {alice.id, bob.id}


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_without_keys_everyone_is_anonymous(path: str, body: dict[str, Any]) -> None:
    callers = Callers()
    async with http_to(observed_app(callers)) as http:
        await _post(http, path, body)
    assert {*callers.seen} == {ANONYMOUS}


async def _post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    try:
        await http.post(path, json=body)
    except ValueError:
        assert path in ("/v1/embeddings", "/v1/rerank"), "the script has no vectors"
