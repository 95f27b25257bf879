"""`appliance tune` and the first start, with real children on the embedded model; and
what is made of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import main
from appliance.errors import BadSettings, NothingFits
from appliance.fit.machine.cgroup_tree import own_groups
from appliance.fit.machine.device import Device, measure
from appliance.fit.plan.budget import Budget
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.memory import without_memory
from appliance.fit.tuning.record import Conditions, TuningRecord, TuningRecords
from appliance.launch.cpu_paths import path_memory
from appliance.launch.files import PreparedModel, plan_model, prepare_model
from appliance.launch.tuning import run as tuning_run
from appliance.launch.tuning.recall import (
    plan_on_best_path,
    plan_untuned,
    recall_tuning,
    tuning_key,
)
from appliance.launch.tuning.run import tune_at_first_start
from appliance.llama.checks import CpuPaths, PathResult
from appliance.llama.checks.stopwatch import Stopwatch
from appliance.settings import ServeSettings
from tests.conftest import Embedded
from tests.serve.conftest import Server, environment, free_port

BOTH_WORK = CpuPaths(PathResult(True, "works"), PathResult(True, "works"))
ONLY_PLAIN = CpuPaths(PathResult(True, "works"), PathResult(False, "died of SIGILL"))
CONDITIONS = Conditions(date="2026-11-23", seconds=60.0, depth=1024, streams=4, is_short=False)


@pytest.fixture
def settings(embedded: Embedded, tmp_path: Path) -> ServeSettings:
    """For the embedded model's file; on a machine whose CPU paths need no probing, for
    that takes its own time.
    """
    settings = ServeSettings(
        model=(str(embedded.files["Q8_0"]),),
        models_dir=tmp_path / "models",
        state_dir=tmp_path / "state",
    )
    path_memory(settings).remember(ONLY_PLAIN)
    return settings


@pytest.fixture
def model(settings: ServeSettings) -> PreparedModel:
    return prepare_model(settings)


def remember(
    settings: ServeSettings, model: PreparedModel, paths: CpuPaths, tuning: Tuning
) -> None:
    device = measure()
    plan = plan_untuned(settings, model, device, paths)
    record = TuningRecord(key=tuning_key(plan, device, paths), conditions=CONDITIONS, tuning=tuning)
    TuningRecords(settings.state_dir).remember(plan.model_path, record)


def command(name: str, settings: ServeSettings, *flags: str) -> list[str]:
    folders = ["--models-dir", str(settings.models_dir), "--state-dir", str(settings.state_dir)]
    return [name, *settings.model, *folders, *flags]


def as_json(capsys: pytest.CaptureFixture[str], words: list[str]) -> dict[str, Any]:
    assert main(words, {"HOME": "/nowhere"}) == 0
    return dict(json.loads(capsys.readouterr().out))


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


def test_what_was_found_is_used_unless_the_user_says_otherwise(
    settings: ServeSettings, model: PreparedModel
) -> None:
    tuning = Tuning(
        flash_attention=True, threads=7, batch_threads=5, ubatch_rows=96, use_mmap=False
    )
    remember(settings, model, ONLY_PLAIN, tuning)

    plan = plan_on_best_path(settings, model, measure(), ONLY_PLAIN)
    assert (plan.flash_attention, plan.threads, plan.batch_threads) == (True, 7, 5)
    assert (plan.ubatch_rows, plan.use_mmap, plan.use_extra_bufts) == (96, False, False)

    own = replace(settings, threads=2, flash_attention=False, mmap=True, ubatch_rows=256)
    plan = plan_on_best_path(own, model, measure(), ONLY_PLAIN)
    assert (plan.flash_attention, plan.threads, plan.batch_threads) == (False, 2, 2)
    assert (plan.ubatch_rows, plan.use_mmap) == (256, True)
    assert (
        plan_on_best_path(replace(own, batch_threads=3), model, measure(), ONLY_PLAIN).batch_threads
        == 3
    )


def test_extra_buffer_types_are_used_where_they_cost_nothing_else(
    settings: ServeSettings, embedded: Embedded
) -> None:
    settings = replace(settings, model=(str(embedded.files["Q4_K_M"]),))
    model = prepare_model(settings)
    remember(settings, model, BOTH_WORK, Tuning(use_extra_bufts=True, batch_threads=1))
    machine = replace(measure(), cpu_flags=frozenset({"avx2"}))

    assert plan_on_best_path(settings, model, machine, BOTH_WORK).use_extra_bufts
    # Room for a byte less than the repacked copy takes: the rest of what was found
    # stays in use.
    repacked = plan_model(settings, model, machine, Tuning(use_extra_bufts=True, batch_threads=1))
    assert repacked.need.repacked_bytes > 0
    short = _with_budget(machine, repacked.need.claimed_bytes - 1)
    plan = plan_on_best_path(settings, model, short, BOTH_WORK)
    assert (plan.use_extra_bufts, plan.batch_threads, plan.kv_cells) == (
        False,
        1,
        repacked.kv_cells,
    )


def _with_budget(machine: Device, usable_bytes: int) -> Device:
    """A machine with so much to plan with: a tenth, at least 32 MiB, is headroom."""
    total_bytes = usable_bytes + max(32 << 20, usable_bytes // 9)
    return replace(
        machine, ram_available_bytes=total_bytes, own_anonymous_bytes=0, mapped_by_others_bytes=0
    )


def test_a_path_that_was_given_up_makes_what_was_found_stale(
    settings: ServeSettings, model: PreparedModel
) -> None:
    remember(settings, model, BOTH_WORK, Tuning(use_extra_bufts=True))
    plan = plan_untuned(settings, model, measure(), ONLY_PLAIN)
    assert recall_tuning(settings, plan, measure(), BOTH_WORK) is not None
    assert recall_tuning(settings, plan, measure(), ONLY_PLAIN) is None
    assert not plan_on_best_path(settings, model, measure(), ONLY_PLAIN).use_extra_bufts


def test_the_first_start_measures_and_the_next_does_not(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_run, "MAX_OTHERS_SHARE", 2.0)  # other tests may run beside this one
    plan = plan_untuned(settings, model, measure(), ONLY_PLAIN)

    tune_at_first_start(replace(settings, no_tune=True), model, measure(), ONLY_PLAIN)
    assert recall_tuning(settings, plan, measure(), ONLY_PLAIN) is None

    tune_at_first_start(settings, model, measure(), ONLY_PLAIN)
    record = recall_tuning(settings, plan, measure(), ONLY_PLAIN)
    assert record is not None
    assert record.found is not None
    assert record.conditions.is_short
    assert {verdict.field for verdict in record.found.verdicts} <= {
        "use_extra_bufts",
        "flash_attention",
        "threads",
    }

    path = TuningRecords(settings.state_dir).path(plan.model_path, "f16")
    written = path.stat().st_mtime_ns
    tune_at_first_start(settings, model, measure(), ONLY_PLAIN)
    assert path.stat().st_mtime_ns == written


def test_a_busy_machine_concludes_nothing_at_the_first_start(
    settings: ServeSettings,
    model: PreparedModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tuning_run, "MAX_OTHERS_SHARE", -1.0)
    tune_at_first_start(settings, model, measure(), ONLY_PLAIN)
    assert "nothing is concluded" in caplog.text
    assert not (settings.state_dir / "tuning").exists()


def test_what_cannot_be_measured_is_remembered_as_that(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = (sys.executable, "-c", "raise SystemExit('no model')")
    monkeypatch.setattr(tuning_run, "Stopwatch", lambda: Stopwatch(dying))
    monkeypatch.setattr(tuning_run, "MAX_OTHERS_SHARE", 2.0)
    tune_at_first_start(settings, model, measure(), ONLY_PLAIN)
    plan = plan_untuned(settings, model, measure(), ONLY_PLAIN)
    record = recall_tuning(settings, plan, measure(), ONLY_PLAIN)
    assert record is not None
    assert (record.found, record.reason, record.tuning) == (
        None,
        "failed with status 1: no model",
        Tuning(),
    )


def test_measuring_needs_memory_too(settings: ServeSettings, model: PreparedModel) -> None:
    machine = measure()
    plan = plan_untuned(settings, model, machine, BOTH_WORK)

    def impossible(mib: int) -> set[str]:
        budget = Budget(mib << 20, 0, "for the test")
        return {
            field
            for field, _ in without_memory(model.headers[0], replace(plan, budget=budget), machine)
        }

    assert impossible(1024) == set()
    assert impossible(220) == {"use_extra_bufts", "use_mmap"}
    with pytest.raises(
        NothingFits, match=r"^Measuring novels-6m-Q8_0.gguf takes .* there are 100.0 MiB"
    ):
        impossible(100)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"flash_attention": False, "kv_type": "q8_0"}, "only flash attention reads quantized KV"),
        ({"ubatch_rows": 600}, "--ubatch-rows 600 is more than --max-batch-rows 512"),
    ],
)
def test_contradictions_are_told(flags: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=says):
        ServeSettings(models_dir=tmp_path, state_dir=tmp_path, **flags)


def test_without_flash_attention_kv_is_not_quantized(
    settings: ServeSettings, model: PreparedModel
) -> None:
    own = replace(settings, flash_attention=False)
    plan = plan_untuned(own, model, measure(), ONLY_PLAIN)
    assert {candidate.kv_type for candidate in plan.candidates} == {"f16"}


def test_serve_computes_as_was_found(
    settings: ServeSettings, model: PreparedModel, tmp_path: Path
) -> None:
    remember(
        settings, model, ONLY_PLAIN, Tuning(flash_attention=True, batch_threads=1, ubatch_rows=96)
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
