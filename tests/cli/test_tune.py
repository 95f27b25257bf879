"""`appliance tune` on the embedded model, and a server that computes as was found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import main
from appliance.fit.machine.cgroup_tree import own_groups
from appliance.fit.tuning.choices import Tuning
from appliance.launch.files import PreparedModel, prepare_model
from appliance.launch.names import model_spec
from appliance.settings import ServeSettings
from tests.conftest import Embedded
from tests.launch.specs import Events
from tests.launch.tuning.remembered import launch_for, remember, settings_for
from tests.serve.server import Server, environment, free_port


@pytest.fixture
def settings(embedded: Embedded, tmp_path: Path) -> ServeSettings:
    return settings_for(embedded, tmp_path)


@pytest.fixture
def model(settings: ServeSettings) -> PreparedModel:
    return prepare_model(model_spec(settings), Events())


def command(name: str, settings: ServeSettings, *flags: str) -> list[str]:
    folders = ["--models-dir", str(settings.models_dir), "--state-dir", str(settings.state_dir)]
    return [name, *settings.model, *folders, "--kernels", settings.kernels, *flags]


def as_json(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    assert main(words, {"HOME": "/nowhere"}) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.alone  # two seconds have to suffice for something
def test_two_seconds_of_tuning_and_what_fit_and_a_table_make_of_it(
    settings: ServeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = as_json(capsys, command("tune", settings, "--seconds", "2", "--json"))

    found = tuned["record"]["found"]
    verdicts = {verdict["field"]: verdict for verdict in found["verdicts"]}
    assert verdicts["use_extra_bufts"]["reason"] == "extra buffer types: died of SIGILL"
    assert set(verdicts) <= {field.name for field in fields(Tuning)}
    assert (tuned["record"]["conditions"]["depth"], tuned["record"]["conditions"]["streams"]) == (
        1024,
        4,
    )
    for rounds in (
        found["default_rounds"],
        found["best_rounds"],
        *tuned["record"]["empty"].values(),
    ):
        assert all(speeds["alone_ms"] > 0 and speeds["together_ms"] > 0 for speeds in rounds)
    assert Path(tuned["record_file"]).parent == settings.state_dir / "tuning"

    fitted = as_json(capsys, command("fit", settings, "--json"))
    assert {name: fitted[name] for name in tuned["serve"]} == tuned["serve"]

    assert main(command("tune", settings, "--seconds", "1"), {"HOME": "/nowhere"}) == 0
    out = capsys.readouterr().out
    assert "Each choice against the best before it" in out
    assert "\n  defaults, empty cache " in out
    assert out.splitlines()[-1].startswith("`appliance serve` computes on plain weights, ")


def test_serve_computes_as_was_found(
    settings: ServeSettings, model: PreparedModel, tmp_path: Path
) -> None:
    remember(
        launch_for(settings, model),
        Tuning(flash_attention=True, batch_threads=1, ubatch_rows=96),
    )
    words = command("serve", settings, "--port", str(free_port()))
    server = Server([sys.executable, "-m", "appliance", *words], 0, environment(tmp_path), tmp_path)
    try:
        server.await_line(" ready: ")
    finally:
        server.end()
    assert "(1 for several tokens), up to 96 tokens together, with flash attention." in server.log
    assert "measuring how" not in server.log


@pytest.fixture
def one_cpu() -> Iterator[Path]:
    """A control group whose processes get one CPU's time."""
    groups = own_groups(Path("/"), "cpu")
    if not groups:
        pytest.skip("there is no control group of cpu here")
    group = groups[0].directory / f"appliance-tune-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text("100000 100000")
        else:
            (group / "cpu.cfs_quota_us").write_text("100000")
        yield group
    except OSError as error:
        pytest.skip(f"{group} cannot be given a quota: {error}")
    finally:
        group.rmdir()


@pytest.mark.alone  # so has one
def test_within_a_quota_of_one_cpu_one_thread_computes(
    settings: ServeSettings, one_cpu: Path
) -> None:
    words = [
        sys.executable,
        "-m",
        "appliance",
        *command("tune", settings, "--seconds", "1", "--json"),
    ]
    inside = ["sh", "-c", f'echo $$ > "{one_cpu}/cgroup.procs" && exec "$@"', "sh", *words]
    # The key says what machine this is: with a quota it is another one, and
    # cpu_paths.json is the same.
    done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    tuned = json.loads(done.stdout)
    assert tuned["record"]["key"]["cpu_quota"] == 1.0
    assert (tuned["serve"]["threads"], tuned["serve"]["batch_threads"]) == (1, 1)
    assert not {"threads", "batch_threads"} & {
        verdict["field"] for verdict in tuned["record"]["found"]["verdicts"]
    }
