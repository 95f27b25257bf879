"""Settings for the embedded model's file,
and what tuning is remembered to have found.
"""

from __future__ import annotations

from pathlib import Path

from appliance.fit.machine.device import Device, measure_device
from appliance.fit.tuning.choices import Tuning
from appliance.fit.tuning.record import TuningConditions, TuningRecord, TuningRecords
from appliance.launch.cpu_paths import path_memory
from appliance.launch.files import PreparedModel
from appliance.launch.machine import Machine
from appliance.launch.names import model_spec
from appliance.launch.planning import Launch, launch_of
from appliance.launch.tuning.recall import tuning_key, untuned_plan
from appliance.llama.checks import CpuPaths, PathResult
from appliance.settings import ServeSettings
from tests.conftest import Embedded

BOTH_WORK = CpuPaths(PathResult(True, "works"), PathResult(True, "works"))
ONLY_PLAIN = CpuPaths(PathResult(True, "works"), PathResult(False, "died of SIGILL"))
CONDITIONS = TuningConditions(
    date="2026-11-23", seconds=60.0, depth=1024, streams=4, is_short=False
)


def settings_for(embedded: Embedded, folder: Path) -> ServeSettings:
    """On a machine whose CPU paths need no probing, for that takes its own time; nor do
    kernels of our own, for there are none.
    """
    settings = ServeSettings(
        model=(str(embedded.files["Q8_0"]),),
        models_dir=folder / "models",
        state_dir=folder / "state",
        kernels="off",
    )
    path_memory(settings.state_dir).remember(ONLY_PLAIN)
    return settings


def launch_for(
    settings: ServeSettings,
    model: PreparedModel,
    paths: CpuPaths = ONLY_PLAIN,
    device: Device | None = None,
) -> Launch:
    machine = Machine(device or measure_device(), paths, "none")
    return launch_of(model_spec(settings), model, machine)


def remember(launch: Launch, tuning: Tuning) -> None:
    """As if tuning had found this to be best for the launch's model."""
    plan = untuned_plan(launch)
    record = TuningRecord(
        key=tuning_key(plan, launch.machine), conditions=CONDITIONS, tuning=tuning
    )
    TuningRecords(launch.state_dir).remember(plan.model_path, record)
