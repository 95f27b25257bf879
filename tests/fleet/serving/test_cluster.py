"""What is refused before any of Ray's processes is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance.cli.dispatch import main
from appliance.errors import BadSettings, SetupError
from appliance.fleet.serving.cluster import head


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("203.0.113.7:6379", "203.0.113.7 is no address of this machine"),
        ("nowhere.invalid:6379", "nowhere.invalid is no address of this machine"),
        ("0.0.0.0:6379", "which other machines cannot join"),
    ],
)
def test_a_heads_address_is_its_own(address: str, words: str) -> None:
    with pytest.raises(BadSettings, match=words), head(address, {}):
        pass


def test_what_listens_there_and_is_no_head_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("appliance.fleet.serving.cluster._ASK_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(SetupError, match="not this fleet's head"), head(address, {}):
            pass


def test_a_port_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fleet.toml"
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("", 0)) as free:
        port, ray_port = other.getsockname()[1], free.getsockname()[1]
        free.close()
        file.write_text(
            f'port = {port}\nmodel = ["novels-6m"]\nstate_dir = "{tmp_path}"\n'
            f'[fleet]\nray = "127.0.0.1:{ray_port}"\n'
        )
        assert main(["fleet", "serve", str(file)]) == 2
    assert str(port) in capsys.readouterr().err


def test_a_socket_is_no_address_of_a_fleet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(
        f'host = "unix:{tmp_path}/x.sock"\nmodel = ["novels-6m"]\nstate_dir = "{tmp_path}"\n'
        '[fleet]\nray = "127.0.0.1:9"\n'
    )
    assert main(["fleet", "serve", str(file)]) == 2
    assert "takes requests at an address" in capsys.readouterr().err


def test_a_token_that_is_empty_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "fleet-token"
    token.write_text("\n")
    command = ["fleet", "join", "127.0.0.1:9", "--token-file", str(token)]
    assert main([*command, "--state-dir", str(tmp_path)]) == 2
    assert f"{token} is empty" in capsys.readouterr().err


def test_certificates_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(f'tls_cert = "no.pem"\nstate_dir = "{tmp_path}"\n')
    assert main(["fleet", "serve", str(file)]) == 2
    assert f"{tmp_path / 'no.pem'}" in capsys.readouterr().err
