"""What SIGHUP changes, names, and leaves as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from appliance.api.app import create_app
from appliance.cli.listening import allowed_names
from appliance.cli.network.certificates import Certificates
from appliance.cli.network.reloading import Reloading
from appliance.errors import BadSettings
from appliance.gateway.lifecycle import Gateway
from appliance.settings import ServeSettings
from tests.api.scripted_client import ScriptedClient, gateway_around, http_to
from tests.cli.network.own_certificates import Authority


class Running:
    """A server's application, and the settings that it would read now."""

    def __init__(self, settings: ServeSettings, certificates: Certificates | None = None) -> None:
        self.found = settings
        self.gateway: Gateway = gateway_around(ScriptedClient())
        self.app: FastAPI = create_app(
            self.gateway, allowed_hosts=allowed_names(settings, self.gateway.admission)
        )
        self.reloading = Reloading(
            settings,
            read=lambda: self.found,
            admission=self.gateway.admission,
            certificates=certificates,
            app=self.app,
        )

    def reload(self, **changed: object) -> None:
        self.found = replace(self.found, **changed)  # type: ignore[arg-type]
        self.reloading.reload()

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with http_to(self.app, **headers) as http:
            return await http.get(path)


@pytest.fixture(autouse=True)
def root_level() -> Iterator[None]:
    """Put back: reloading sets it for the whole process."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    return ServeSettings(models_dir=tmp_path, state_dir=tmp_path)


async def test_hosts_origins_and_keys_hold_at_once(settings: ServeSettings, tmp_path: Path) -> None:
    running, keys = Running(settings), tmp_path / "keys"
    origin = "https://chat.example.org"
    assert (await running.get("/v1/models", host="llm.example.org")).status_code == 403
    running.reload(allowed_host=("llm.example.org",), allow_origin=(origin,))
    response = await running.get("/v1/models", host="llm.example.org", origin=origin)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin

    keys.write_text("first\n")
    running.reload(api_key_file=keys, allowed_host=())
    assert (await running.get("/v1/models")).status_code == 401
    assert (await running.get("/v1/models", **{"x-api-key": "first"})).status_code == 200
    keys.write_text("second\n")  # the file alone
    running.reload()
    assert (await running.get("/v1/models", **{"x-api-key": "first"})).status_code == 401
    assert (await running.get("/v1/models", **{"x-api-key": "second"})).status_code == 200
    running.reload(api_key_file=None)  # open again: so names are looked at again
    assert (await running.get("/v1/models")).status_code == 200
    assert (await running.get("/v1/models", host="llm.example.org")).status_code == 403


async def test_where_one_thing_cannot_be_used_nothing_changes(
    settings: ServeSettings, tmp_path: Path
) -> None:
    running = Running(settings)
    with pytest.raises(BadSettings, match="cannot be read"):
        running.reload(api_key_file=tmp_path / "none", allowed_host=("llm.example.org",))
    assert (await running.get("/v1/models", host="llm.example.org")).status_code == 403
    assert (await running.get("/v1/models")).status_code == 200


async def test_a_public_server_is_not_opened(settings: ServeSettings, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first\n")
    running = Running(replace(settings, host="0.0.0.0", api_key_file=keys))
    running.reload()
    with pytest.raises(BadSettings, match="open to everybody"):
        running.reload(api_key_file=None)
    assert (await running.get("/v1/models")).status_code == 401


def test_what_needs_a_restart_is_named_each_time(
    settings: ServeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(settings)
    for _ in range(2):
        running.reload(port=9000, slots=2)
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "only a restart changes these settings: slots, port"
    ] * 2


def test_certificates_are_read_anew_and_tls_needs_a_restart(
    settings: ServeSettings, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    Authority().write(cert, key)
    running = Running(replace(settings, tls_cert=cert, tls_key=key), Certificates(cert, key))
    running.reload()
    cert.write_text("nothing")
    with pytest.raises(BadSettings, match="cannot be used"):
        running.reload()
    with pytest.raises(BadSettings, match="only a restart"):
        running.reload(tls_cert=None, tls_key=None)
