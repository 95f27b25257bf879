"""A client whose connection broke comes back to its stream: nothing comes twice, nothing
is missing, and nobody else gets it.
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
from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.api.transport import open_streams
from appliance.errors import WorkerLost
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from tests.api.resumable_scripts import LETTERS, ScriptsClient
from tests.api.scripted_client import (
    CREATED,
    ScriptedClient,
    gateway_around,
)
from tests.api.serving import Serve

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"messages": HELLO, "stream": True}
PATIENCE_S = 30
ACCEPT = {"Accept": "text/event-stream"}

BODIES: list[tuple[str, Any]] = [
    (PATH, CHAT),
    (PATH, {**CHAT, "stream_options": {"include_usage": True}}),
    ("/v1/completions", {"prompt": "Once", "stream": True}),
    ("/v1/responses", {"input": "Hello", "stream": True}),
    ("/infill", {"input_prefix": "a", "input_suffix": "b", "stream": True}),
]


def app_around(client: ScriptedClient, keys: tuple[str, ...] = (), **options: Any) -> FastAPI:
    return create_app(gateway_around(client, keys), **{"resume_s": 60, **options})


async def frames_of(http: httpx.AsyncClient, path: str, body: Any, **headers: str) -> list[str]:
    """The events of a stream as they stand, to its end."""
    response = await http.post(path, json=body, headers=headers)
    assert response.status_code == 200, response.text
    frames = response.text.split("\n\n")
    assert frames.pop() == ""
    return frames


async def begin(http: httpx.AsyncClient, path: str, body: Any, num_frames: int) -> list[str]:
    """Reads so many events, then breaks the connection."""
    frames: list[str] = []
    async with http.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        lines: list[str] = []
        async for line in response.aiter_lines():
            if line:
                lines.append(line)
                continue
            frames.append("\n".join(lines))
            lines = []
            if len(frames) == num_frames:
                break
    return frames


def id_of(frame: str) -> str:
    [line] = [line for line in frame.split("\n") if line.startswith("id: ")]
    return line.removeprefix("id: ")


def data_of(frames: list[str]) -> list[Any]:
    """What the events say, without what is another one for each request."""

    def said(frame: str) -> Any:
        [line] = [line for line in frame.split("\n") if line.startswith("data: ")]
        data = line.removeprefix("data: ")
        if not data.startswith("{"):
            return data
        return _without(json.loads(data), {"id", "created", "created_at", "item_id"})

    return [said(frame) for frame in frames]


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(each, names) for name, each in value.items() if name not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value


@asynccontextmanager
async def http_to(serve: Serve, app: FastAPI, key: str = "") -> AsyncIterator[httpx.AsyncClient]:
    headers = dict(ACCEPT)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    async with httpx.AsyncClient(base_url=serve(app), headers=headers) as http:
        yield http


async def test_events_have_ids_and_the_first_says_when_to_come_back(serve: Serve) -> None:
    async with http_to(serve, app_around(ScriptedClient(*LETTERS))) as http:
        first, *rest = await frames_of(http, PATH, CHAT)
        other, *_ = await frames_of(http, PATH, CHAT)
    retry, *lines = first.split("\n")
    assert retry == "retry: 1000"
    ids = [id_of(frame) for frame in ["\n".join(lines), *rest]]
    name = ids[0].removesuffix(".0")
    assert ids == [f"{name}.{number}" for number in range(len(LETTERS) + 1)]  # and [DONE]
    assert not id_of(other).startswith(name)
    assert all(frame.split("\n")[0].startswith("id: ") for frame in rest)
    assert all(len(frame.split("\n")) == 2 for frame in rest)


@pytest.mark.parametrize(("path", "body"), BODIES)
@pytest.mark.parametrize("num_read", [1, 4])
async def test_a_stream_goes_on_after_the_last_event(
    serve: Serve, path: str, body: Any, num_read: int
) -> None:
    gate = asyncio.Event()  # the model has got no further when the connection breaks
    client = ScriptedClient(*LETTERS[:6], gate, *LETTERS[6:])
    async with http_to(serve, app_around(client)) as http:
        read = await begin(http, path, body, num_read)
        await asyncio.wait_for(client.closed.wait(), PATIENCE_S)  # its slot is free
        gate.set()
        rest = await frames_of(http, path, body, **{"Last-Event-ID": id_of(read[-1])})
        whole = await frames_of(http, path, body)
    assert data_of(read + rest) == data_of(whole)
    ids = [id_of(frame) for frame in read + rest]
    assert ids == [f"{ids[0].removesuffix('.0')}.{number}" for number in range(len(whole))]
    assert client.forgotten == []


async def test_again_and_again_and_also_when_it_has_ended(serve: Serve) -> None:
    client = ScriptedClient(*LETTERS)
    async with http_to(serve, app_around(client)) as http:
        frames = await frames_of(http, PATH, CHAT)
        for number, frame in enumerate(frames):
            again = await frames_of(http, PATH, CHAT, **{"Last-Event-ID": id_of(frame)})
            assert again == frames[number + 1 :]
    assert len(client.requests) == 1


async def test_a_connection_that_is_not_known_to_be_broken_is_ended(serve: Serve) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*LETTERS[:4], gate, *LETTERS[4:])
    gateway = gateway_around(client)
    async with (
        http_to(serve, create_app(gateway, resume_s=60)) as http,
        http.stream("POST", PATH, json=CHAT) as old,
    ):
        lines = old.aiter_lines()
        read = []
        while not any('"c"' in line for line in read):
            read.append(await anext(lines))
        last = [line for line in read if line.startswith("id: ")][1].removeprefix("id: ")
        resuming = asyncio.create_task(frames_of(http, PATH, CHAT, **{"Last-Event-ID": last}))
        await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
        gate.set()
        rest = await resuming
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in lines:
                pass
    assert [event["choices"][0]["delta"].get("content") for event in data_of(rest)[:-2]] == list(
        "bcdefgh"
    )
    assert gateway.num_requests == 0


async def test_a_look_takes_no_stream_from_its_reader(serve: Serve) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*LETTERS[:4], gate, *LETTERS[4:])
    async with (
        http_to(serve, app_around(client)) as http,
        http.stream("POST", PATH, json=CHAT) as stream,
    ):
        lines = stream.aiter_lines()
        read = [await anext(lines)]
        while not any('"c"' in line for line in read):
            read.append(await anext(lines))
        last = [line for line in read if line.startswith("id: ")][-1].removeprefix("id: ")
        assert (await http.head(f"/v1/streams/{last}")).status_code == 200
        assert (await http.head("/v1/streams/unknown.1")).status_code == 410
        gate.set()
        read += [line async for line in lines]
        end = [line for line in read if line.startswith("id: ")][-1].removeprefix("id: ")
        assert (await http.head(f"/v1/streams/{end}")).status_code == 204
    assert "data: [DONE]" in read


async def test_several_choices_go_on_together(serve: Serve) -> None:
    gates = [asyncio.Event() for _ in range(3)]
    scripts = [(*LETTERS[: 4 + at], gates[at], *LETTERS[4 + at :]) for at in range(3)]
    client = ScriptsClient(*scripts)
    body = {**CHAT, "n": 3}
    async with http_to(serve, app_around(client)) as http:
        read = await begin(http, PATH, body, 8)
        await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
        for gate in gates:
            gate.set()
        rest = await frames_of(http, PATH, body, **{"Last-Event-ID": id_of(read[-1])})
    texts = ["", "", ""]
    for event in data_of(read + rest)[:-1]:
        [choice] = event["choices"]
        texts[choice["index"]] += choice["delta"].get("content") or ""
    assert texts == ["abcdefgh"] * 3


async def test_what_breaks_while_the_client_is_away_is_told(serve: Serve) -> None:
    client = ScriptedClient(*LETTERS[:3], asyncio.Event(), WorkerLost("It died."))
    async with http_to(serve, app_around(client)) as http:
        read = await begin(http, PATH, CHAT, 3)
        await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
        [last] = await frames_of(http, PATH, CHAT, **{"Last-Event-ID": id_of(read[-1])})
    assert "It died." in last


async def test_where_it_cannot_go_on_now_it_may_be_tried_again(serve: Serve) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*LETTERS[:4], gate, *LETTERS[4:])
    router = Router([ServedModel(id="novels", client=client, created=CREATED)])
    app = create_app(Gateway(router, Admission([]), max_requests=1), resume_s=60)
    async with http_to(serve, app) as http:
        read = await begin(http, PATH, CHAT, 3)
        await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
        last = {"Last-Event-ID": id_of(read[-1])}
        async with http.stream("POST", PATH, json=CHAT) as other:  # the only one in flight
            lines = other.aiter_lines()
            await anext(lines)
            refused = await http.post(PATH, json=CHAT, headers=last)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
            gate.set()
            assert "data: [DONE]" in [line async for line in lines]
        rest = await frames_of(http, PATH, CHAT, **last)
    assert len(read + rest) == len(LETTERS) + 1


@pytest.mark.parametrize("foreign", ["x", "x.1", ".", "1", "..", "%s.", "%s.x", "%s.99", "%s.٣"])
async def test_an_unknown_id_is_410(serve: Serve, foreign: str) -> None:
    async with http_to(serve, app_around(ScriptedClient(*LETTERS))) as http:
        name = id_of((await frames_of(http, PATH, CHAT))[0]).removesuffix(".0")
        headers = {"Last-Event-ID": (foreign.replace("%s", name)).encode()}
        answer = await http.post(PATH, json=CHAT, headers=headers)  # type: ignore[arg-type] # bytes
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "stream_gone"
    assert "Last-Event-ID" in answer.json()["error"]["message"]


async def test_somebody_elses_stream_is_unknown_and_so_is_one_of_another_path(
    serve: Serve,
) -> None:
    client = ScriptedClient(*LETTERS)
    async with http_to(serve, app_around(client, keys=("ours", "theirs")), "ours") as http:
        last = {"Last-Event-ID": id_of((await frames_of(http, PATH, CHAT))[1])}
        theirs = {**last, "Authorization": "Bearer theirs"}
        foreign = await http.post(PATH, json=CHAT, headers=theirs)
        unknown = await http.post(PATH, json=CHAT, headers={"Last-Event-ID": "x.1"})
        assert (foreign.status_code, foreign.text) == (410, unknown.text)
        body = {"prompt": "Once", "stream": True}
        assert (await http.post("/v1/completions", json=body, headers=last)).status_code == 410
        assert len(await frames_of(http, PATH, CHAT, **last)) > 2


async def test_who_stays_away_too_long_is_forgotten(serve: Serve) -> None:
    client = ScriptedClient(*LETTERS[:3], asyncio.Event())
    app = app_around(client, resume_s=0.05)
    async with http_to(serve, app) as http:
        read = await begin(http, PATH, CHAT, 2)
        while not client.forgotten:
            await asyncio.sleep(0)
        headers = {"Last-Event-ID": id_of(read[-1])}
        assert (await http.post(PATH, json=CHAT, headers=headers)).status_code == 410
    assert len(client.forgotten) == 1


async def test_only_so_many_are_held(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_streams, "_MAX_SUSPENDED", 1)
    client = ScriptedClient(*LETTERS[:3], asyncio.Event())
    async with http_to(serve, app_around(client)) as http:
        read = []
        for _ in range(2):
            client.closed.clear()
            read.append(await begin(http, PATH, CHAT, 2))
            await asyncio.wait_for(client.closed.wait(), PATIENCE_S)
        while not client.forgotten:
            await asyncio.sleep(0)
    first, _ = [id_of(frames[0]).removesuffix(".0") for frames in read]
    assert client.forgotten == [f"{first}.0"]


async def test_what_was_sent_long_ago_is_not_kept(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_streams, "_MAX_BYTES", 1000)
    monkeypatch.setattr(open_streams, "_MIN_STREAM_BYTES", 1000)
    async with http_to(serve, app_around(ScriptedClient(*LETTERS))) as http:
        frames = await frames_of(http, PATH, CHAT)
        old, late = ({"Last-Event-ID": id_of(frame)} for frame in (frames[0], frames[-2]))
        answer = await http.post(PATH, json=CHAT, headers=old)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "stream_gone")
        assert "more has been sent" in answer.json()["error"]["message"]
        assert await frames_of(http, PATH, CHAT, **late) == frames[-1:]


async def test_without_it_there_are_no_ids_and_the_header_means_nothing(serve: Serve) -> None:
    app = app_around(ScriptedClient(*LETTERS), resume_s=0)
    async with http_to(serve, app) as http:
        frames = await frames_of(http, PATH, CHAT, **{"Last-Event-ID": "x.1"})
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
async def test_who_does_not_say_that_it_reads_event_streams_gets_bare_data(
    serve: Serve, accept: str
) -> None:
    """vLLM's, SGLang's and Ray's load generators take each line for an event's data."""
    client = ScriptedClient(*LETTERS)
    async with http_to(serve, app_around(client)) as http:
        frames = await frames_of(http, PATH, CHAT, accept=accept)
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    assert client.requests[0].resume_id == "", "it ends with its connection"


@pytest.mark.parametrize("gate_at", [0, 1, 3])
async def test_openais_client_reads_ids_and_comments(serve: Serve, gate_at: int) -> None:
    gate = asyncio.Event()
    app = app_around(ScriptedClient(*LETTERS[:gate_at], gate, *LETTERS[gate_at:]))
    app.state.sse_keep_alive_s = 0.02
    url = serve(app)
    async with openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="any", max_retries=0, default_headers=ACCEPT
    ) as api:
        asyncio.get_running_loop().call_later(0.2, gate.set)
        stream = await api.chat.completions.create(model="novels", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "abcdefgh"


async def test_without_the_request_it_goes_on_at_a_path_of_its_own(serve: Serve) -> None:
    client = ScriptedClient(*LETTERS)
    async with http_to(serve, app_around(client, keys=("ours", "theirs")), "ours") as http:
        frames = await frames_of(http, PATH, CHAT)
        path = f"/v1/streams/{id_of(frames[2])}"
        rest = await http.get(path)
        assert (rest.status_code, rest.text.split("\n\n")[:-1]) == (200, frames[3:])
        rest = await http.get(path, headers={"Last-Event-ID": id_of(frames[5])})
        assert rest.text.split("\n\n")[:-1] == frames[6:]
        ended = await http.get(path, headers={"Last-Event-ID": id_of(frames[-1])})
        assert (ended.status_code, ended.text) == (204, "")
        theirs = await http.get(path, headers={"Authorization": "Bearer theirs"})
        assert (theirs.status_code, theirs.json()["error"]["code"]) == (410, "stream_gone")
    assert len(client.requests) == 1
