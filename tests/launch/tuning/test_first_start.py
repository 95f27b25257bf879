"""The first start with a model measures it,
with real children on the embedded model.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from appliance.errors import NothingFits
from appliance.fit.machine.device import measure_device
from appliance.fit.plan.budget import Budget
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.memory import without_memory
from appliance.fit.tuning.record import TuningRecords
from appliance.launch.files import PreparedModel
from appliance.launch.tuning import run as tuning_run
from appliance.launch.tuning.recall import recall_tuning, untuned_plan
from appliance.launch.tuning.run import tune_at_first_start
from appliance.llama.checks.stopwatch import Stopwatch
from appliance.settings import ServeSettings
from tests.launch.specs import Events
from tests.launch.tuning.remembered import BOTH_WORK, launch_for


def test_the_first_start_measures_and_the_next_does_not(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_run, "MAX_OTHERS_SHARE", 2.0)  # other tests may run beside this one
    launch, events = launch_for(settings, model), Events()
    plan = untuned_plan(launch)
    assert recall_tuning(launch, plan) is None

    tune_at_first_start(launch, plan, events)
    assert events.texts == ["measuring how novels-6m-Q8_0.gguf is computed best here (6 s, once)"]
    record = recall_tuning(launch, plan)
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
    tune_at_first_start(launch, plan, events)
    assert path.stat().st_mtime_ns == written


def test_a_busy_machine_concludes_nothing_at_the_first_start(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_run, "MAX_OTHERS_SHARE", -1.0)
    events = Events()
    launch = launch_for(settings, model)
    tune_at_first_start(launch, untuned_plan(launch), events)
    assert "nothing is concluded" in events.texts[-1]
    assert [event.is_warning for event in events] == [False, True]
    assert not (settings.state_dir / "tuning").exists()


def test_what_cannot_be_measured_is_remembered_as_that(
    settings: ServeSettings, model: PreparedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = (sys.executable, "-c", "raise SystemExit('no model')")
    monkeypatch.setattr(tuning_run, "Stopwatch", lambda: Stopwatch(dying))
    monkeypatch.setattr(tuning_run, "MAX_OTHERS_SHARE", 2.0)
    launch = launch_for(settings, model)
    plan = untuned_plan(launch)
    tune_at_first_start(launch, plan, Events())
    record = recall_tuning(launch, plan)
    assert record is not None
    assert (record.found, record.reason, record.tuning) == (
        None,
        "failed with status 1: no model",
        Tuning(),
    )


def test_measuring_needs_memory_too(settings: ServeSettings, model: PreparedModel) -> None:
    machine = measure_device()
    plan = untuned_plan(launch_for(settings, model, BOTH_WORK, machine))

    def impossible(mib: int) -> set[str]:
        budget = Budget(mib << 20, 0, "for the test")
        return {
            field
            for field, _ in without_memory(model.headers[0], replace(plan, budget=budget), machine)
        }

    assert impossible(1024) == set()
    assert impossible(220) == {"use_extra_bufts", "use_mmap"}
    with pytest.raises(
        NothingFits, match=r"^Measuring novels-6m-Q8_0.gguf takes .* only 100.0 MiB"
    ):
        impossible(100)
