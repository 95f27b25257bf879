"""`appliance ps` and `doctor` reach a server over TLS and over a Unix socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from appliance.cli.checks import CheckStatus
from appliance.cli.checks.service import check_server
from appliance.cli.network.certificates import Certificates
from appliance.cli.network.reaching import Address
from appliance.cli.running_server import RunningServer
from appliance.errors import ApplianceError, BadSettings
from appliance.settings import ServeSettings
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.cli.network.conftest import Listen
from tests.cli.network.own_certificates import Authority
from tests.serve.server import free_port


def settings_for(folder: Path, **options: object) -> ServeSettings:
    return ServeSettings(models_dir=folder, state_dir=folder, **options)  # type: ignore[arg-type]


async def test_over_a_unix_socket(tmp_path: Path, listen: Listen) -> None:
    settings = settings_for(tmp_path, host=f"unix:{tmp_path}/a.sock")
    absent = await asyncio.to_thread(check_server, Address.of(settings))
    assert absent.finding == f"none is running on unix:{tmp_path}/a.sock"
    listen(settings, gateway_around(ScriptedClient()))
    found = await asyncio.to_thread(RunningServer.of(settings).processes)
    assert [model["id"] for model in found["models"]] == ["novels"]
    check = await asyncio.to_thread(check_server, Address.of(settings))
    assert (check.status, check.finding) == (
        CheckStatus.OK,
        f"answers on unix:{tmp_path}/a.sock",
    )
    with pytest.raises(BadSettings, match=r"a Unix socket, which has no URL"):
        _ = RunningServer.of(settings).url


async def test_over_tls_by_the_certificate_whatever_name_is_in_it(
    tmp_path: Path, listen: Listen
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority = Authority()
    authority.write(cert, key, "llm.example.org")
    settings = settings_for(tmp_path, port=free_port(), tls_cert=cert, tls_key=key)
    listen(settings, gateway_around(ScriptedClient()), Certificates(cert, key))
    server = RunningServer.of(settings)
    assert server.url == f"https://127.0.0.1:{settings.port}"
    found = await asyncio.to_thread(server.processes)
    assert json.dumps(found["models"][0]["id"]) == '"novels"'

    # another one, of the same authority and for the same name, is not this server's
    authority.write(cert, key, "llm.example.org")
    with pytest.raises(ApplianceError, match="CERTIFICATE_VERIFY_FAILED"):
        await asyncio.to_thread(server.processes)
    cert.write_text("nothing")
    with pytest.raises(BadSettings, match="holds no certificate in PEM form"):
        await asyncio.to_thread(server.processes)


def test_doctor_says_that_the_certificate_cannot_be_read(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tls_cert=tmp_path / "none.pem")
    check = check_server(Address.of(settings))
    assert check.status is CheckStatus.WARN
    assert check.finding.startswith(f"--tls-cert {tmp_path}/none.pem cannot be read: ")
