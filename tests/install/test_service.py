"""--service and --uninstall in a scratch root, with fakes for systemctl, useradd,
launchctl and their like.
"""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from tests.install.machine import Machine, pip_verbs


@pytest.fixture
def server(machine: Machine) -> Machine:
    """A machine that systemd started, with nothing of ours yet."""
    (machine.root / "run/systemd/system").mkdir(parents=True)
    machine.add_noted_programs("useradd", "userdel", "usermod", "chown", "journalctl")
    machine.add_program(
        "id", '#!/bin/sh\n[ "$1" != appliance ] || grep -q "^useradd" "$FAKE_CALLS.all"\n'
    )
    machine.add_program("getent", "#!/bin/sh\n[ $2 = video ]\n")
    machine.add_program(
        "runuser",
        "#!/bin/sh\nshift 5\nwhile case $1 in -i|*=*) :;; *) false;; esac; do shift; "
        'done\nexec "$@"\n',
    )
    machine.add_program(
        "systemctl",
        '#!/bin/sh\necho "systemctl $*" | tee -a "$FAKE_CALLS" >>"$FAKE_CALLS.all"\n'
        'case $1 in is-failed) [ -n "$FAKE_SILENT" ] ;; esac\n',
    )
    machine.add_program(
        "useradd", '#!/bin/sh\necho "useradd $*" | tee -a "$FAKE_CALLS" >>"$FAKE_CALLS.all"\n'
    )
    place_python(machine)
    return machine


def place_python(machine: Machine) -> None:
    """Makes the fake Python say that it lies where a service may use it, and where the
    service will answer.
    """
    python = (machine.bin / "python3").read_text()
    answers = (
        '    "-I -c import os"*) echo "3.12.0 /usr" ;;\n    "-I - "*appliance.toml) note '
        '"settings $3"; echo http://127.0.0.1:8080/health ;;\n    *) exec'
    )
    machine.add_program("python3", python.replace("    *) exec", answers))


def unit(machine: Machine) -> Path:
    return machine.root / "etc/systemd/system/appliance.service"


def test_the_service_is_installed_started_and_awaited(server: Machine) -> None:
    done = server.install("--service")
    assert done.returncode == 0, done.stderr
    calls = server.take_calls()
    prefix = f"{server.root}/opt/appliance"
    assert calls[0] == f"venv {prefix}/lib/appliance"
    assert (
        f"ExecStart={prefix}/lib/appliance/bin/appliance serve --config" in unit(server).read_text()
    )
    assert any(call.startswith("useradd --system") for call in calls)
    assert [call for call in calls if call.startswith("systemctl")] == [
        "systemctl daemon-reload",
        "systemctl enable appliance.service",
        "systemctl reset-failed appliance.service",
        "systemctl restart --no-block appliance.service",
    ]
    assert calls[-1] == "get http://127.0.0.1:8080/health"
    settings = (server.root / "etc/appliance/appliance.toml").read_text()
    assert settings == (server.checkout / "systemd/appliance.toml").read_text()


def test_a_second_time_restarts_nothing_and_an_upgrade_keeps_the_settings(server: Machine) -> None:
    server.install("--service")
    settings = server.root / "etc/appliance/appliance.toml"
    settings.write_text("slots = 2\n")
    server.take_calls()
    assert server.install("--service").returncode == 0
    calls = server.take_calls()
    assert pip_verbs(calls) == []
    assert "systemctl restart --no-block appliance.service" not in calls
    assert not any(call.startswith("useradd") for call in calls)

    (server.checkout / "appliance" / "file").write_text("upgrade")
    assert server.install("--service").returncode == 0
    assert "systemctl restart --no-block appliance.service" in server.take_calls()
    assert settings.read_text() == "slots = 2\n"


def test_a_service_that_fails_shows_its_log(server: Machine) -> None:
    failed = server.install("--service", FAKE_SILENT="1")
    assert failed.returncode == 1
    assert "install.sh failed: Wait until the service answers" in failed.stderr
    assert any(
        call.startswith("journalctl --unit appliance.service") for call in server.take_calls()
    )


def test_a_build_for_cuda_lets_the_service_at_the_gpu_and_one_for_the_cpu_does_not(
    server: Machine,
) -> None:
    drop_in = server.root / "etc/systemd/system/appliance.service.d/gpu.conf"
    server.add_program("nvidia-smi", "#!/bin/sh\necho Tesla T4, 7.5\n")
    server.add_program(
        "nvcc",
        '#!/bin/sh\n[ "$1" != --version ] || echo "Cuda compilation tools, release 12.6, '
        'V12.6.1"\n',
    )
    assert server.install("--service").returncode == 0
    assert "PrivateDevices=no" in drop_in.read_text()
    assert "usermod --append --groups video appliance" in server.take_calls()
    assert server.install("--service", "--cpu").returncode == 0
    assert not drop_in.exists()


def test_a_prefix_moves_the_service(server: Machine) -> None:
    assert server.install("--service", "--prefix", "/srv/a&b", "--dry-run").returncode == 0
    rendered = server.call(
        'parse_options --service --prefix "/srv/a&b"; prepare; render_service'
    ).stdout
    assert (
        "ExecStart=/srv/a&b/lib/appliance/bin/appliance serve --config "
        "/etc/appliance/appliance.toml" in rendered
    )


def test_a_service_does_not_run_from_a_home_directory(server: Machine) -> None:
    failed = server.install("--service", "--prefix", "/home/ada/tools")
    assert "A service cannot run from a home directory" in failed.stderr
    python = (server.bin / "python3").read_text()
    server.add_program("python3", python.replace("3.12.0 /usr", "3.12.0 /root/.pyenv"))
    failed = server.install("--service")
    assert (
        "A service cannot use a Python inside a home directory (python3 is /root/.pyenv)"
        in failed.stderr
    )


def test_a_system_without_systemd_is_told_so(machine: Machine) -> None:
    failed = machine.install("--service")
    assert failed.returncode == 1
    assert "This system was not started by systemd." in failed.stderr


def test_uninstalling_the_service_leaves_models_and_settings_only(server: Machine) -> None:
    server.install("--service")
    state = server.root / "var/lib/appliance"
    (state / "models/m").mkdir(parents=True)
    (state / "models/m/m.gguf").write_text("weights")
    (state / "cpu_paths.json").write_text("{}")
    server.take_calls()
    done = server.install("--uninstall", "--purge", "--service")
    assert done.returncode == 0, done.stderr
    calls = server.take_calls()
    assert calls[0] == "systemctl disable --now appliance.service"
    assert "systemctl daemon-reload" in calls
    assert calls[-2:] == [f"chown -R root:root {state}", "userdel appliance"]
    left = {str(p.relative_to(server.root)) for p in server.root.rglob("*") if p.is_file()} - {
        "proc/cpuinfo"
    }
    assert left == {"var/lib/appliance/models/m/m.gguf", "etc/appliance/appliance.toml"}
    assert not (server.root / "opt/appliance").exists()
    assert not (server.home / ".cache/appliance").exists()


def test_uninstalling_leaves_models_settings_and_the_cache_until_it_is_purged(
    machine: Machine,
) -> None:
    machine.install("--prefix", "tools")
    kept = [
        machine.home / ".local/share/appliance/models/m.gguf",
        machine.home / ".config/appliance/appliance.toml",
    ]
    for file in (*kept, machine.home / ".local/state/appliance/cpu_paths.json"):
        file.parent.mkdir(parents=True)
        file.write_text("x")
    (machine.elsewhere / "tools/bin/other").write_text("not ours")
    done = machine.install("--uninstall", "--prefix", "tools")
    assert done.returncode == 0, done.stderr
    wheels = list((machine.home / ".cache/appliance/wheels").rglob("*.whl"))
    assert wheels, "another installation may use them"
    assert f"built wheels and logs in {machine.home / '.cache/appliance'}" in done.stdout
    assert [p for p in (machine.elsewhere / "tools").rglob("*") if p.is_file()] == [
        machine.elsewhere / "tools/bin/other"
    ]
    assert f"models in {kept[0].parent}" in done.stdout

    again = machine.install("--uninstall", "--purge", "--prefix", "tools")
    assert again.returncode == 0, again.stderr
    assert sorted(p for p in machine.home.rglob("*") if p.is_file()) == sorted(kept)


def test_purge_alone_is_refused(machine: Machine) -> None:
    refused = machine.install("--purge")
    assert refused.returncode == 1
    assert "--purge can only be used with --uninstall" in refused.stderr


def test_an_environment_that_somebody_else_made_is_left(machine: Machine) -> None:
    theirs = machine.checkout / ".venv"
    (theirs / "bin").mkdir(parents=True)
    (theirs / "pyvenv.cfg").touch()
    done = machine.install("--uninstall")
    assert "was not created by install.sh, so it stays" in done.stdout
    assert (theirs / "pyvenv.cfg").exists()


def test_an_environment_in_service_is_not_pulled_away_alone(server: Machine) -> None:
    server.install("--service")
    failed = server.install("--uninstall", "--prefix", str(server.root / "opt/appliance"))
    assert failed.returncode == 1
    assert "Remove it too: ./install.sh --uninstall --service" in failed.stderr


def test_the_agent_of_macos(machine: Machine) -> None:
    machine.become_a_mac()
    machine.add_noted_programs("launchctl")
    place_python(machine)
    done = machine.install("--service")
    assert done.returncode == 0, done.stderr
    agent = machine.home / "Library/LaunchAgents/local.appliance.plist"
    written = plistlib.loads(agent.read_bytes())
    assert written["ProgramArguments"] == [
        f"{machine.home}/.local/lib/appliance/bin/appliance",
        "serve",
        "--config",
        f"{machine.home}/.config/appliance/appliance.toml",
    ]
    assert Path(written["ProgramArguments"][0]).exists()
    assert Path(written["ProgramArguments"][3]).exists()
    assert any(call.startswith("launchctl bootstrap gui/") for call in machine.take_calls())

    assert machine.install("--uninstall", "--service").returncode == 0
    assert not agent.exists()
    assert (machine.home / ".config/appliance/appliance.toml").exists()
