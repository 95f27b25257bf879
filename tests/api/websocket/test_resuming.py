"""A WebSocket is cut anywhere, and its requests go on on another one: no message comes
twice, none is missing, and nobody else gets them.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.api.app import create_app
from appliance.errors import WorkerLost
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from tests.api.resumable_scripts import LETTERS, ScriptsClient
from tests.api.scripted_client import (
    CREATED,
    ScriptedClient,
    gateway_around,
    http_to,
)
from tests.api.websocket.asgi_socket import PATIENCE_S, AsgiSocket, connected

HELLO = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, Any] = {
    "chat": {"messages": HELLO, "stream_options": {"include_usage": True}},
    "completion": {"prompt": "Once"},
    "response": {"input": "Hello"},
}


def app_around(client: ScriptedClient, **options: Any) -> Any:
    return create_app(gateway_around(client), **{"resume_s": 60, **options})


def shape_of(message: dict[str, Any]) -> Any:
    """Without what is another one for each request."""
    return _without(message, {"id", "stream", "created", "created_at", "completed_at", "item_id"})


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(each, names) for name, each in value.items() if name not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value


async def begin(socket: AsgiSocket, kind: str, name: str = "a", **fields: Any) -> str:
    """Asks; returns the name of the stream."""
    socket.say({"type": kind, "id": name, "body": {**BODIES[kind], **fields}})
    start = await socket.hear()
    assert (start["id"], start["type"], start["index"]) == (name, "start", 0)
    return str(start["stream"])


async def whole(app: Any, kind: str) -> list[Any]:
    async with connected(app) as socket:
        await begin(socket, kind)
        return [shape_of(message) for message in await socket.hear_to_end("a")]


# Each cut: after so many more messages were received, and so many more had been sent.
CUTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), max_size=5)


def test_cut_anywhere_nothing_is_twice_and_nothing_missing() -> None:
    client = ScriptedClient()
    app = app_around(client)
    loop = asyncio.new_event_loop()

    @settings(max_examples=80, deadline=None)
    @given(
        kind=st.sampled_from(sorted(BODIES)),
        cuts=CUTS,
        gate_at=st.integers(1, len(LETTERS) - 1),
    )
    def check(kind: str, cuts: list[tuple[int, int]], gate_at: int) -> None:
        loop.run_until_complete(_cut(client, app, kind, cuts, gate_at))

    try:
        check()
    finally:
        loop.close()


async def _cut(
    client: ScriptedClient, app: Any, kind: str, cuts: list[tuple[int, int]], gate_at: int
) -> None:
    """The model stops at `gate_at`, when it gets there first."""
    gate = asyncio.Event()
    client.requests.clear()
    client._steps = (*LETTERS[:gate_at], gate, *LETTERS[gate_at:])
    heard: list[Any] = []
    stream, last = "", 0
    for at in range(len(cuts) + 1):
        is_last = at == len(cuts)
        room = 0 if is_last else max(1, sum(cuts[at]))
        async with connected(app, room=room) as socket:
            if stream:
                socket.say({"type": "resume", "id": "a", "stream": stream, "after": last})
            else:
                stream = await begin(socket, kind)
            if is_last:
                gate.set()
                heard += await socket.hear_to_end("a")
                break
            num_received, _ = cuts[at]
            for _ in range(num_received):
                if (message := await _heard_soon(socket)) is None:
                    break  # it waits for the model
                heard.append(message)
                last = message["index"]
            if heard and heard[-1]["type"] == "done":
                break
    assert [message["index"] for message in heard] == [*range(1, len(heard) + 1)]
    assert len(client.requests) == 1
    client._steps = (*LETTERS,)
    assert [shape_of(message) for message in heard] == await whole(app, kind)


async def _heard_soon(socket: AsgiSocket) -> Any:
    """The next message, or None where the application has nothing more to do."""
    for _ in range(50):
        if socket.num_waiting:
            return await socket.hear()
        await asyncio.sleep(0)
    return None


async def test_several_choices_go_on_together() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    scripts = [(*LETTERS[: 4 + at], gates[at], *LETTERS[4 + at :]) for at in range(3)]
    client = ScriptsClient(*scripts)
    app = app_around(client)
    async with connected(app) as socket:
        stream = await begin(socket, "chat", n=3)
        heard = [await socket.hear() for _ in range(7)]
    for gate in gates:
        gate.set()
    async with connected(app) as socket:
        socket.say({"type": "resume", "id": 1, "stream": stream, "after": heard[-1]["index"]})
        heard += await socket.hear_to_end(1)
    texts = ["", "", ""]
    for message in heard:
        for choice in message.get("data", {}).get("choices", ()):
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["abcdefgh"] * 3
    assert [message["index"] for message in heard] == [*range(1, len(heard) + 1)]


async def test_nothing_is_computed_while_nobody_reads_and_it_can_be_cancelled_later() -> None:
    client = ScriptedClient(*LETTERS[:4], asyncio.Event(), asyncio.Event())  # one each time
    gateway = gateway_around(client)
    app = create_app(gateway, resume_s=60)
    async with connected(app) as socket:
        stream = await begin(socket, "chat")
        for _ in range(4):
            await socket.hear()
    assert gateway.num_requests == 0
    assert client.forgotten == []
    async with connected(app) as socket:
        socket.say({"type": "resume", "id": "b", "stream": stream, "after": 4})
        while not gateway.num_requests:
            await asyncio.sleep(0)
        socket.say({"type": "cancel", "id": "b"})
        assert await socket.hear() == {"id": "b", "type": "done", "index": 5, "cancelled": True}
        assert len(client.forgotten) == 1
        socket.say({"type": "resume", "id": "c", "stream": stream, "after": 3})
        rest = await socket.hear_to_end("c")
        assert [(each["type"], each["index"]) for each in rest] == [("token", 4), ("done", 5)]


async def test_who_has_all_of_it_is_told_that_it_has_ended() -> None:
    app = app_around(ScriptedClient(*LETTERS))
    async with connected(app) as socket:
        stream = await begin(socket, "chat")
        heard = await socket.hear_to_end("a")
        resume = {"type": "resume", "id": "a", "stream": stream, "after": heard[-1]["index"]}
        socket.say(resume)
        assert await socket.hear() == heard[-1]
        socket.say({**resume, "after": heard[-1]["index"] + 1})
        assert (await socket.hear())["data"]["error"]["code"] == "stream_gone"


async def test_a_connection_that_is_not_known_to_be_broken_loses_the_stream_alone() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*LETTERS[:4], gate, *LETTERS[4:])
    app = app_around(client)
    async with connected(app) as old, connected(app) as new:
        stream = await begin(old, "chat")
        old.say({"type": "chat", "id": "other", "body": BODIES["chat"]})
        new.say({"type": "resume", "id": "b", "stream": stream, "after": 0})
        taken = await old.hear()
        while (taken["id"], taken["type"]) != ("a", "error"):
            taken = await old.hear()
        assert (taken["status"], taken["data"]["error"]["code"]) == (409, "stream_taken")
        gate.set()
        heard = await new.hear_to_end("b")
        assert [message["index"] for message in heard] == [*range(1, len(heard) + 1)]
        assert (await old.hear_to_end("other"))[-1]["type"] == "done"


async def test_what_breaks_while_the_client_is_away_is_told() -> None:
    client = ScriptedClient(*LETTERS[:3], asyncio.Event(), WorkerLost("It died."))
    app = app_around(client)
    async with connected(app) as socket:
        stream = await begin(socket, "chat")
        for _ in range(3):
            await socket.hear()
    async with connected(app) as socket:
        socket.say({"type": "resume", "id": "a", "stream": stream, "after": 3})
        error = await socket.hear()
        assert (error["type"], error["index"], error["status"]) == ("error", 4, 503)


async def test_where_it_cannot_go_on_now_it_may_be_tried_again() -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*LETTERS[:4], gate, *LETTERS[4:])
    router = Router([ServedModel(id="novels", client=client, created=CREATED)])
    gateway = Gateway(router, Admission([]), max_requests=1)
    app = create_app(gateway, resume_s=60)
    async with connected(app) as socket:
        stream = await begin(socket, "chat")
        for _ in range(4):
            await socket.hear()
    resume = {"type": "resume", "id": "a", "stream": stream, "after": 4}
    async with connected(app) as socket:
        await begin(socket, "chat", "other")  # the only one in flight
        for _ in range(4):
            await socket.hear()
        socket.say(resume)
        refused = await socket.hear()
        assert (refused["id"], refused["status"]) == ("a", 429)
        gate.set()
        await socket.hear_to_end("other")
        while gateway.num_requests:
            await asyncio.sleep(0)
        socket.say(resume)
        rest = await socket.hear_to_end("a")
        assert [message["index"] for message in rest] == [*range(5, len(LETTERS) + 3)]


async def test_somebody_elses_stream_is_unknown() -> None:
    client = ScriptedClient(*LETTERS)
    app = create_app(gateway_around(client, ("ours", "theirs")), resume_s=60)
    async with connected(app, headers=[("authorization", "Bearer ours")]) as socket:
        stream = await begin(socket, "chat")
        await socket.hear_to_end("a")
    resume = {"type": "resume", "id": "a", "stream": stream, "after": 1}
    async with connected(app, headers=[("authorization", "Bearer theirs")]) as socket:
        socket.say(resume)
        foreign = await socket.hear()
        socket.say({**resume, "stream": "unknown"})
        unknown = await socket.hear()
        ids = (foreign.pop("request_id"), unknown.pop("request_id"))
        assert ids == ("socket.1", "socket.2")
        assert unknown == foreign
        assert foreign["data"]["error"]["code"] == "stream_gone"


async def test_a_stream_goes_on_only_where_it_began() -> None:
    app = app_around(ScriptedClient(*LETTERS))
    async with connected(app) as socket, http_to(app) as http:
        stream = await begin(socket, "chat")
        await socket.hear_to_end("a")
        over_http: httpx.Response = await http.get(f"/v1/streams/{stream}.1")
        assert over_http.status_code == 410
        body = {**BODIES["chat"], "stream": True}
        accept = {"accept": "text/event-stream"}
        text = (await http.post("/v1/chat/completions", json=body, headers=accept)).text
        [name, *_] = [line for line in text.split("\n") if line.startswith("id: ")]
        over_sse = name.removeprefix("id: ").removesuffix(".0")
        socket.say({"type": "resume", "id": "b", "stream": over_sse, "after": 0})
        assert (await socket.hear())["data"]["error"]["code"] == "stream_gone"


async def test_without_resuming_streams_have_no_names() -> None:
    async with connected(app_around(ScriptedClient(*LETTERS), resume_s=0)) as socket:
        socket.say({"type": "chat", "id": "a", "body": BODIES["chat"]})
        heard = await socket.hear_to_end("a")
    start = {"id": "a", "type": "start", "index": 0, "request_id": "socket.1"}
    assert heard[0] == start
    assert [message["index"] for message in heard] == [*range(len(LETTERS) + 3)]


async def test_who_stays_away_too_long_is_forgotten() -> None:
    client = ScriptedClient(*LETTERS[:3], asyncio.Event())
    app = app_around(client, resume_s=0.05)
    async with connected(app) as socket:
        stream = await begin(socket, "chat")
    async with connected(app) as socket:
        await asyncio.wait_for(_until_forgotten(client), PATIENCE_S)
        socket.say({"type": "resume", "id": "a", "stream": stream, "after": 0})
        assert (await socket.hear())["data"]["error"]["code"] == "stream_gone"


async def _until_forgotten(client: ScriptedClient) -> None:
    while not client.forgotten:
        await asyncio.sleep(0)
