"""SIGHUP to a real server: at any moment of its start, and while it serves."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from tests.cli.network.own_certificates import Authority
from tests.serve.server import Server, StartServer, environment, free_port

_HANGUP_BIT = 1 << (signal.SIGHUP - 1)


def catches_hangups(pid: int) -> bool:
    """As the kernel has it; not before the interpreter runs."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught.split()[1], 16) & _HANGUP_BIT)


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc says whether it is caught")
def test_hangups_from_the_first_import_on_are_harmless_and_taken_up(
    home: Path, tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "appliance", "serve", "--no-tune", "--port", str(port)]
    server = Server([*command, "novels-6m"], port, environment(home), tmp_path)
    try:
        pid = server.process.pid
        while not catches_hangups(pid):
            assert server.process.poll() is None
        assert server.lines == []
        while " ready: " not in server.log:
            os.kill(pid, signal.SIGHUP)
            server.await_more(len(server.lines))
        server.await_line("settings read anew; changed: no setting")
        assert server.health()["status"] == "ok"
        server.process.terminate()
        assert server.process.wait(60) == 0
    finally:
        server.end()


class House:
    """A server whose files change while it serves."""

    def __init__(self, start: StartServer, folder: Path) -> None:
        self._start = start
        self._folder = folder
        self.keys, self.config = folder / "keys", folder / "settings.toml"
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"

    def write(self, *keys: str, **settings: object) -> None:
        self.keys.write_text("\n".join(keys))
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        self.config.write_text("".join([f"api_key_file = {json.dumps(str(self.keys))}\n", *lines]))

    def start(self, *flags: str) -> Server:
        return self._start("novels-6m", "--config", str(self.config), *flags)


@pytest.fixture
def house(start_server: StartServer, tmp_path: Path) -> House:
    return House(start_server, tmp_path)


def models_by(server: Server, key: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{server.url}/v1/models", headers={"x-api-key": key, **headers}, timeout=60)


def test_keys_and_settings_are_taken_up_and_streams_go_on(house: House) -> None:
    house.write("first")
    server = house.start()
    origin = {"origin": "https://chat.example.org"}
    with httpx.stream(
        "POST",
        f"{server.url}/v1/completions",
        headers={"x-api-key": "first"},
        json={"prompt": "It was", "max_tokens": 400, "ignore_eos": True, "stream": True},
        timeout=60,
    ) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith(("data: ", "id: ", "retry: "))
        house.write("second", allow_origin=[origin["origin"]], slots=3)
        server.process.send_signal(signal.SIGHUP)
        server.await_line("settings read anew; changed: allow_origin")
        server.await_line("only a restart changes these settings: slots")
        assert models_by(server, "first").status_code == 401
        shown = models_by(server, "second", **origin)
        assert shown.status_code == 200
        assert shown.headers["access-control-allow-origin"] == origin["origin"]
        assert [line for line in lines if line][-1] == "data: [DONE]"
    house.write()  # a file without keys: nobody opens the server by that
    server.process.send_signal(signal.SIGHUP)
    server.await_line("settings not read anew, everything is as before")
    assert models_by(server, "second", **origin).status_code == 200
    assert models_by(server, "").status_code == 401


def test_certificates_are_taken_up_by_sighup_and_by_themselves(house: House) -> None:
    authorities = [Authority() for _ in range(3)]
    authorities[0].write(house.cert, house.key)
    house.write("secret")
    server = house.start("--tls-cert", str(house.cert), "--tls-key", str(house.key))
    url = server.url.replace("http://", "https://")

    def answered(authority: Authority) -> bool:
        """Whether a new connection that trusts this one alone gets an answer."""
        body = {"prompt": "It was", "max_tokens": 2}
        with httpx.Client(
            base_url=url, verify=authority.trust(), headers={"x-api-key": "secret"}, timeout=60
        ) as http:
            try:
                return http.post("/v1/completions", json=body).status_code == 200
            except httpx.ConnectError:
                return False

    assert [answered(each) for each in authorities] == [True, False, False]
    with httpx.Client(base_url=url, verify=authorities[0].trust(), timeout=60) as kept:
        assert kept.get("/health").json() == {"status": "ok"}
        authorities[1].write(house.cert, house.key)
        server.process.send_signal(signal.SIGHUP)
        server.await_line("settings read anew; changed: no setting")
        assert [answered(each) for each in authorities] == [False, True, False]
        authorities[2].write(house.cert, house.key)
        server.await_line("new TLS connections use the new certificate")
        assert [answered(each) for each in authorities] == [False, False, True]
        house.cert.write_text("nothing")
        server.process.send_signal(signal.SIGHUP)
        server.await_line("settings not read anew, everything is as before")
        assert [answered(each) for each in authorities] == [False, False, True]
        assert kept.get("/health").json() == {"status": "ok"}  # on the connection of before
