"""The files of the service as systemd, TOML and launchd read them."""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.cli.service_files import example_settings
from appliance.settings import ServeSettings, declared, load
from tests.install.machine import REPOSITORY

UNIT = REPOSITORY / "systemd" / "appliance.service"
MAX_EXPOSURE = 3.0

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)


def installed_unit(folder: Path, extra: str = "") -> Path:
    """The unit with a program that exists, as the installer writes it,
    and what a drop-in adds.
    """
    program = folder / "lib/appliance/bin/appliance"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = folder / "appliance.service"
    unit.write_text(
        UNIT.read_text()
        .replace("/opt/appliance", str(folder))
        .replace("[Install]", f"{extra}\n[Install]")
    )
    return unit


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],
        env=os.environ | {"SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_analyze
def test_systemd_accepts_the_unit_without_a_word(tmp_path: Path) -> None:
    verified = analyze("verify", installed_unit(tmp_path))
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize("drop_in", ["", "gpu.conf"])
def test_the_service_is_little_exposed(tmp_path: Path, drop_in: str) -> None:
    extra = (REPOSITORY / "systemd" / drop_in).read_text() if drop_in else ""
    found = analyze("security", "--offline=true", installed_unit(tmp_path, extra))
    exposure = re.search(r"Overall exposure level for appliance\.service: ([0-9.]+)", found.stdout)
    if exposure is None and "offline" in found.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert exposure is not None, found.stderr
    assert float(exposure[1]) <= MAX_EXPOSURE


def test_the_units_stop_limit_leaves_room_for_the_default_drain() -> None:
    limit = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert limit is not None
    assert int(limit[1]) >= ServeSettings(models_dir=Path("m"), state_dir=Path("s")).drain_s + 10


def test_the_units_directories_are_those_of_the_appliance(tmp_path: Path) -> None:
    words = re.findall(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)
    environ = dict(word.split("=", 1) for line in words for word in line.split())
    config = tmp_path / "appliance.toml"
    config.write_text(example_settings())
    settings = load(ServeSettings, {"config": str(config)}, environ)
    assert (settings.models_dir, settings.state_dir) == (
        Path("/var/lib/appliance/models"),
        Path("/var/lib/appliance"),
    )


def test_the_example_shows_every_setting_and_changes_none(tmp_path: Path) -> None:
    text = example_settings()
    assert (REPOSITORY / "systemd" / "appliance.toml").read_text() == text
    shown = re.findall(r"^#(\w+) = (.*)$", text, re.MULTILINE)
    assert [name for name, _ in shown] == [entry.name for entry in declared(ServeSettings)]

    config = tmp_path / "appliance.toml"
    config.write_text("\n".join(f"{name} = {value}" for name, value in shown if value != '""'))
    environ = {"HOME": "/home/ada"}
    assert load(ServeSettings, {"config": str(config)}, environ) == load(ServeSettings, {}, environ)


def test_the_agent_is_a_property_list_that_starts_the_appliance() -> None:
    agent = plistlib.loads((REPOSITORY / "launchd" / "local.appliance.plist").read_bytes())
    assert agent["ProgramArguments"][:2] == ["@VENV@/bin/appliance", "serve"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
