"""Real nginx and real Caddy with the published settings, in front of two real servers."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Embedded
from tests.deploy import balancers
from tests.deploy.balancers import NAME, Balancer
from tests.serve.server import Server, environment, free_port

Start = Callable[[tuple[str, str], trustme.CA, Path], Balancer]
BALANCERS: dict[str, Start] = {"nginx": balancers.nginx, "caddy": balancers.caddy}
LONG = {"prompt": "It was", "max_tokens": 400, "ignore_eos": True, "stream": True}
SHORT = {"prompt": "It was", "max_tokens": 2}
COMPLETIONS = "/v1/completions"
HOST = {"Host": NAME}
NUM_CHECKERS = 3  # Caddy has one for each `reverse_proxy`, and each finds out for itself
NUM_ROUNDS = 3  # that they have all asked


class Fleet:
    """Two servers that answer to one name, and the balancers in front that are here."""

    def __init__(self, folders: pytest.TempPathFactory, model: Path, names: list[str]) -> None:
        self._folders, self._model = folders, model
        self._home = folders.mktemp("home")
        self._authority, self._context = trustme.CA(), ssl.create_default_context()
        self._authority.configure_trust(self._context)
        self._names = names
        self.servers = [self._start(free_port()) for _ in range(2)]
        self.balancers: dict[str, Balancer] = {}
        self.stand_up()

    def stand_up(self) -> None:
        """Both servers run, and balancers that know nothing bad of them."""
        for balancer in self.balancers.values():
            balancer.end()
        for place, server in enumerate(self.servers):
            if server.process.poll() is not None:
                self.servers[place] = self._start(int(server.url.rpartition(":")[2]))
        for server in self.servers:
            server.await_line(" ready: ")
        first, second = (server.url.removeprefix("http://") for server in self.servers)
        for name in self._names:
            folder = self._folders.mktemp(name)
            self.balancers[name] = BALANCERS[name]((first, second), self._authority, folder)

    def end(self) -> None:
        for process in (*self.balancers.values(), *self.servers):
            process.end()

    def num_running(self) -> list[int]:
        return [server.health()["num_requests"] for server in self.servers]

    def http(self, name: str) -> httpx.Client:
        """To a balancer, by the name that users call."""
        return httpx.Client(
            transport=_ByName(verify=self._context),
            base_url=self.balancers[name].url,
            headers=HOST,
            timeout=60,
        )

    def websocket(self, name: str, path: str, headers: dict[str, str]) -> ClientConnection:
        port = int(self.balancers[name].url.rpartition(":")[2])
        return connect(
            f"wss://{NAME}:{port}{path}",
            sock=socket.create_connection(("127.0.0.1", port)),
            ssl=self._context,
            additional_headers=headers,
        )

    def _start(self, port: int) -> Server:
        command = [sys.executable, "-m", "appliance", "serve", str(self._model)]
        command += ["--port", str(port), "--no-tune", "--slots", "6", "--prompt-lookup", "off"]
        command += ["--allowed-host", NAME, "--drain-delay-s", "1"]
        return Server(command, port, environment(self._home), self._home)


class _ByName(httpx.HTTPTransport):
    """Asks 127.0.0.1 for the certificate of another name."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = NAME
        return super().handle_request(request)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, embedded: Embedded) -> Iterator[Fleet]:
    here = [name for name in BALANCERS if shutil.which(name)]
    if not here:
        pytest.skip("needs nginx or caddy, and neither is here")
    fleet = Fleet(tmp_path_factory, embedded.files["Q8_0"], here)
    yield fleet
    fleet.end()


@pytest.fixture(params=BALANCERS)
def name(request: pytest.FixtureRequest, fleet: Fleet) -> str:
    name: str = request.param
    if name not in fleet.balancers:
        pytest.skip(f"needs {name}, which is not here")
    return name


def test_a_stream_comes_in_pieces_and_leaving_it_frees_its_slot(fleet: Fleet, name: str) -> None:
    with (
        fleet.http(name) as http,
        http.stream("POST", COMPLETIONS, json={**LONG, "max_tokens": 1500}) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        pieces = answer.iter_raw()
        first = next(pieces)
        assert 1 <= first.count(b"data: ") < 20
        assert sum(fleet.num_running()) == 1  # it goes on, and what is there was sent
        assert next(pieces)
    while sum(fleet.num_running()):
        pass
    logs = "\n".join(server.log for server in fleet.servers)
    assert answer.headers["x-request-id"] in logs


def test_requests_go_where_the_fewest_are(fleet: Fleet, name: str) -> None:
    with fleet.http(name) as http, contextlib.ExitStack() as open_streams:
        for _ in range(4):
            asked = http.stream("POST", COMPLETIONS, json={**LONG, "max_tokens": 1500})
            open_streams.enter_context(asked)
        assert fleet.num_running() == [2, 2]
    while sum(fleet.num_running()):
        pass


def test_a_request_keeps_its_name_and_its_id(fleet: Fleet, name: str) -> None:
    with fleet.http(name) as http:
        named = http.post(COMPLETIONS, json=SHORT, headers={"x-request-id": f"{name}-7"})
        assert (named.status_code, named.headers["x-request-id"]) == (200, f"{name}-7")
        foreign = http.post(COMPLETIONS, json=SHORT, headers={"Host": "evil.example"})
    assert foreign.status_code == (403 if name == "nginx" else 200)
    if name == "caddy":  # it answers for its own name alone
        assert foreign.content == b""


def test_a_websocket_goes_through_to_the_server_that_knows_the_response(
    fleet: Fleet, name: str
) -> None:
    key = {"Authorization": "Bearer any"}
    create = {"type": "response.create", "input": "Tell me.", "max_output_tokens": 4}
    with fleet.websocket(name, "/v1/responses", key) as talk:
        talk.send(json.dumps(create))
        while (event := json.loads(talk.recv(timeout=60)))["type"] not in (
            "response.completed", "response.incomplete"
        ):  # fmt: skip
            assert event["type"] != "error", event
    with fleet.http(name) as http:
        for _ in range(4):
            path = f"/v1/responses/{event['response']['id']}"
            assert http.get(path, headers=key).json()["status"] == event["response"]["status"]


def test_what_each_server_has_of_its_own_is_refused(fleet: Fleet, name: str) -> None:
    with fleet.http(name) as http:
        for path in ("/metrics", "/v1/keys", "/keys/ada/revoke"):
            refused = http.post(path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")


@dataclass
class Asked:
    """What is under way through one balancer: on either server a stream, and an answer
    in one piece.
    """

    http: httpx.Client
    streams: list[httpx.Response]
    whole: list[Future[httpx.Response]]

    def short(self, request_id: str) -> int:
        """The status of one more request."""
        headers = {"x-request-id": request_id}
        return self.http.post(COMPLETIONS, json=SHORT, headers=headers).status_code


@pytest.fixture
def asked(fleet: Fleet) -> Iterator[dict[str, Asked]]:
    """By the balancer's name; the second server may be ended."""
    fleet.stand_up()
    with contextlib.ExitStack() as open_, ThreadPoolExecutor(4) as pool:
        found: dict[str, Asked] = {}
        for name in fleet.balancers:
            http = open_.enter_context(fleet.http(name))
            streams = [
                open_.enter_context(http.stream("POST", COMPLETIONS, json=LONG)) for _ in range(2)
            ]
            found[name] = Asked(http, streams, [])
        expected = 2 * len(found)
        for each in found.values():
            for _ in range(2):
                each.whole.append(
                    pool.submit(each.http.post, COMPLETIONS, json={**LONG, "stream": False})
                )
                expected += 1
                while sum(fleet.num_running()) < expected:
                    assert not each.whole[-1].done(), each.whole[-1].result().text
        assert fleet.num_running() == [expected // 2, expected // 2]
        yield found
    fleet.servers[1].end()


def is_whole(stream: httpx.Response) -> bool:
    """Read to its end, or to where it breaks."""
    try:
        return stream.read().endswith(b"data: [DONE]\n\n")
    except (httpx.RemoteProtocolError, httpx.ReadError):
        return False


def test_a_server_that_ends_refuses_nobody(fleet: Fleet, asked: dict[str, Asked]) -> None:
    ending = fleet.servers[1]
    ending.process.send_signal(signal.SIGTERM)
    ending.await_line("stopping: /health says so")
    statuses = {name: [through.short(f"{name}-0")] for name, through in asked.items()}
    if "caddy" in asked:
        caddy = fleet.balancers["caddy"]
        while caddy.log.count("health_checker.active") < NUM_ROUNDS * NUM_CHECKERS:
            caddy.await_more(len(caddy.lines))
        statuses["caddy"] += [asked["caddy"].short(f"known-{i}") for i in range(4)]
    ending.await_line("waiting for answers in progress")
    for name, through in asked.items():
        statuses[name] += [through.short(f"refused-{i}") for i in range(4)]
        assert [is_whole(stream) for stream in through.streams] == [True, True], name
        assert [answer.result().status_code for answer in through.whole] == [200, 200], name
    assert ending.process.wait() == 0
    for name, through in asked.items():
        statuses[name] += [through.short(f"gone-{i}") for i in range(4)]
        assert {*statuses[name]} == {200}, name
    assert "known-" not in ending.log


def test_a_killed_server_costs_its_own_requests_alone(
    fleet: Fleet, asked: dict[str, Asked]
) -> None:
    fleet.servers[1].end()
    for name, through in asked.items():
        assert [through.short(f"{name}-{i}") for i in range(6)] == [200] * 6, name
        assert sorted(map(is_whole, through.streams)) == [False, True], name
        whole = sorted(answer.result().status_code for answer in through.whole)
        # nginx asks the other server; Caddy has given the body away, and says so at once
        assert whole == ([200, 200] if name == "nginx" else [200, 503]), name
        for answer in through.whole:
            if answer.result().status_code == 503:
                assert answer.result().json()["error"]["code"] == "unavailable"
                assert answer.result().headers["x-request-id"]
