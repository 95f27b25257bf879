"""A broken connection on a real server: the slot is free, the stream goes on."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.serve.server import Server, StartServer

PATH = "/v1/completions"
ASKED: dict[str, Any] = {"prompt": "It was a dark night", "max_tokens": 400, "ignore_eos": True}
STREAMED = {**ASKED, "stream": True, "stream_options": {"include_usage": True}}
NUM_READ = 10


def read(server: Server, num_events: int | None = None, last_id: str = "") -> list[tuple[str, str]]:
    """The ids and data of so many events, or of all; then the connection is closed."""
    events: list[tuple[str, str]] = []
    headers = {"Last-Event-ID": last_id} if last_id else {"Accept": "text/event-stream"}
    with httpx.stream(
        "POST", f"{server.url}{PATH}", json=STREAMED, headers=headers, timeout=60
    ) as response:
        assert response.status_code == 200
        event_id = ""
        for line in response.iter_lines():
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                events.append((event_id, line.removeprefix("data: ")))
            if len(events) == num_events:
                break
    return events


def text_of(events: list[tuple[str, str]]) -> str:
    *chunks, usage, (_, done) = events
    assert done == "[DONE]"
    assert json.loads(usage[1])["usage"]["completion_tokens"] == ASKED["max_tokens"]
    return "".join(json.loads(data)["choices"][0]["text"] for _, data in chunks)


def model(server: Server) -> Any:
    [described] = server.health()["models"]
    return described


def test_a_stream_goes_on_where_its_connection_broke(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--slots", "1")
    parts = read(server, NUM_READ)
    while model(server)["num_running"]:  # by the next heartbeat
        pass
    steps = model(server)["num_steps"]
    # the only slot is another one's meanwhile
    assert httpx.post(f"{server.url}{PATH}", json={**ASKED, "max_tokens": 3}).status_code == 200
    parts += read(server, last_id=parts[-1][0])
    assert text_of(parts)
    ids = [event_id.partition(".")[2] for event_id, _ in parts]
    assert ids == [str(number) for number in range(len(parts))]
    assert steps < ASKED["max_tokens"], "nothing is computed while nobody reads"
    assert read(server, last_id=parts[0][0]) == parts[1:]  # it has ended, and is kept

    gone = httpx.post(
        f"{server.url}{PATH}", json={**ASKED, "stream": True}, headers={"Last-Event-ID": "x.1"}
    )
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "stream_gone")
