"""`appliance tune`: measures how a model is computed best on this machine, and
remembers it for `serve`.

Knows neither what is tried nor how it is measured.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import msgspec

from appliance.cli.catalog.auto import with_auto
from appliance.cli.progress_lines import ProgressLines, counted
from appliance.cli.tables.tune import as_text
from appliance.errors import SetupError
from appliance.fit.plan.planner import Plan
from appliance.fit.tuning.record import TuningRecord, TuningRecords
from appliance.fit.tuning.tuner import NotMeasured
from appliance.launch.files import prepare_model
from appliance.launch.machine import measure_machine
from appliance.launch.names import model_spec
from appliance.launch.planning import launch_of
from appliance.launch.tuning.bench import MAX_OTHERS_SHARE
from appliance.launch.tuning.recall import best_plan, untuned_plan
from appliance.launch.tuning.run import run_tuning, tuning_job, whole
from appliance.settings import ServeSettings
from appliance.store.event import StoreEvent


def run(settings: ServeSettings, *, seconds: float, as_json: bool) -> int:
    """Raises `NothingFits` where measuring would take too much memory, `SetupError`
    where nothing can be timed.
    """
    on_event = ProgressLines(sys.stderr)
    settings = with_auto(settings, lambda text: on_event(StoreEvent(text)))
    spec = model_spec(settings)
    model = prepare_model(spec, on_event)
    launch = launch_of(spec, model, measure_machine(spec, on_event))
    untuned = untuned_plan(launch)
    job = tuning_job(launch, untuned)
    records = TuningRecords(settings.state_dir)
    try:
        with counted(f"measuring {job.plan.model_path.name}", seconds, sys.stderr):
            record = run_tuning(job, whole(seconds))
    except NotMeasured as failure:
        raise SetupError(
            f"{job.plan.model_path.name} could not be measured: {failure.reason}. Try more "
            "--seconds, or run 'appliance doctor' to see which CPU paths work."
        ) from failure
    records.remember(job.plan.model_path, record)
    plan = best_plan(launch, untuned)
    if as_json:
        file = records.path(job.plan.model_path, job.plan.sizes.kv_type)
        print(json.dumps(_as_record(record, plan, str(file)), indent=2))
    else:
        print(as_text(record, plan, max_others_share=MAX_OTHERS_SHARE))
    return 0


def _as_record(record: TuningRecord, plan: Plan, file: str) -> dict[str, object]:
    """The record as it is kept, where, and how `serve` computes with it."""
    return {
        "model_path": str(plan.model_path),
        "record_file": file,
        "serve": {
            "use_extra_bufts": plan.use_extra_bufts,
            "flash_attention": plan.sizes.flash_attention,
            "threads": plan.sizes.threads,
            "batch_threads": plan.sizes.batch_threads,
            "ubatch_rows": plan.sizes.ubatch_rows,
            "use_mmap": plan.use_mmap,
        },
        "gain": None if record.found is None else asdict(record.found.gain),
        "record": msgspec.to_builtins(record),
    }
