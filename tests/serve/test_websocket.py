"""A WebSocket on a real server with the embedded model: side by side, cut, resumed."""

from __future__ import annotations

import json
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.serve.server import Server, StartServer

ASKED: dict[str, Any] = {
    "prompt": "It was a dark night",
    "max_tokens": 300,
    "ignore_eos": True,
    "stream_options": {"include_usage": True},
}


def hear(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(timeout=60))


def hear_to_end(socket: ClientConnection, *ids: str) -> list[Any]:
    heard: list[Any] = []
    open_ids = {*ids}
    while open_ids:
        heard.append(hear(socket))
        if heard[-1]["type"] in ("done", "error"):
            open_ids.remove(heard[-1]["id"])
    return heard


def text_of(messages: list[Any]) -> str:
    records = [message["data"] for message in messages if message["type"] == "token"]
    return "".join(record["choices"][0]["text"] for record in records)


def model(server: Server) -> Any:
    [described] = server.health()["models"]
    return described


def test_requests_go_on_where_their_connection_broke(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--slots", "2")
    url = server.url.replace("http://", "ws://") + "/v1/stream"
    ask = {"type": "completion", "body": ASKED}
    with connect(url) as socket:
        for name in ("a", "b"):
            socket.send(json.dumps({**ask, "id": name}))
        heard = [hear(socket) for _ in range(24)]
        socket.socket.close()
    while model(server)["num_running"]:  # by the next heartbeat
        pass
    assert model(server)["num_steps"] < ASKED["max_tokens"]
    parts = {name: [each for each in heard if each["id"] == name] for name in ("a", "b")}
    with connect(url) as socket:
        for name, part in parts.items():
            resume = {"stream": part[0]["stream"], "after": part[-1]["index"]}
            socket.send(json.dumps({"type": "resume", "id": name, **resume}))
        heard = hear_to_end(socket, "a", "b")
        socket.send(json.dumps({**ask, "id": "c"}))
        hear(socket)
        socket.send(json.dumps({"type": "cancel", "id": "c"}))
        assert hear_to_end(socket, "c")[-1]["cancelled"]
    for name, part in parts.items():
        messages = part + [each for each in heard if each["id"] == name]
        assert [each["index"] for each in messages] == [*range(len(messages))]
        assert messages[-1]["type"] == "done"
        assert messages[-2]["data"]["usage"]["completion_tokens"] == ASKED["max_tokens"]
        assert len(text_of(messages)) > ASKED["max_tokens"]


def test_a_turn_after_a_turn_computes_only_what_is_new(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--slots", "1")
    url = server.url.replace("http://", "ws://") + "/v1/responses"
    create = {"type": "response.create", "max_output_tokens": 40, "temperature": 0}
    with connect(url) as socket:

        def turn(**fields: Any) -> Any:
            socket.send(json.dumps({**create, **fields}))
            while (event := hear(socket))["type"] not in (
                "response.completed", "response.incomplete", "response.failed", "error"
            ):  # fmt: skip
                pass
            return event["response"]

        first = turn(input="Tell me of the sea.", generate=False)
        assert (first["status"], first["output"]) == ("completed", [])
        second = turn(input="And then?", previous_response_id=first["id"])
    warm = first["usage"]["input_tokens"]
    assert first["usage"]["output_tokens"] == 0
    assert second["usage"]["input_tokens"] > warm
    assert second["output"][0]["content"][0]["text"]
