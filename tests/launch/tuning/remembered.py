"""Settings for the embedded model's file, and what tuning is remembered to have found."""

from __future__ import annotations

from pathlib import Path

from appliance.fit.machine.device import measure
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.record import Conditions, TuningRecord, TuningRecords
from appliance.launch.cpu_paths import path_memory
from appliance.launch.files import PreparedModel
from appliance.launch.tuning.recall import plan_untuned, tuning_key
from appliance.llama.checks import CpuPaths, PathResult
from appliance.settings import ServeSettings
from tests.conftest import Embedded

BOTH_WORK = CpuPaths(PathResult(True, "works"), PathResult(True, "works"))
ONLY_PLAIN = CpuPaths(PathResult(True, "works"), PathResult(False, "died of SIGILL"))
CONDITIONS = Conditions(date="2026-11-23", seconds=60.0, depth=1024, streams=4, is_short=False)


def settings_for(embedded: Embedded, folder: Path) -> ServeSettings:
    """On a machine whose CPU paths need no probing, for that takes its own time."""
    settings = ServeSettings(
        model=(str(embedded.files["Q8_0"]),),
        models_dir=folder / "models",
        state_dir=folder / "state",
    )
    path_memory(settings).remember(ONLY_PLAIN)
    return settings


def remember(
    settings: ServeSettings, model: PreparedModel, paths: CpuPaths, tuning: Tuning
) -> None:
    device = measure()
    plan = plan_untuned(settings, model, device, paths)
    record = TuningRecord(key=tuning_key(plan, device, paths), conditions=CONDITIONS, tuning=tuning)
    TuningRecords(settings.state_dir).remember(plan.model_path, record)
