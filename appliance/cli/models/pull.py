"""`appliance pull`: shows what of a repository fits, fetches that, and makes it ready.

Knows no hub and no choice.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from appliance.cli.catalog.auto import with_auto
from appliance.cli.fit import as_text, plan_or_explain
from appliance.cli.progress_lines import ProgressLines
from appliance.errors import BadSettings
from appliance.fit.plan.budget import readable
from appliance.launch import hub_choice
from appliance.launch.files import hub_id_with_quant, prepare_source
from appliance.launch.machine import measure_machine
from appliance.launch.names import model_spec
from appliance.launch.planning import launch_of
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.event import StoreEvent
from appliance.store.hub_id import HubId
from appliance.store.known.names import find_repository, near_names
from appliance.store.models import ModelStore
from appliance.store.split import model_name


def run(settings: ServeSettings, *, from_dir: Path | None = None) -> int:
    on_event = ProgressLines(sys.stderr)
    settings = with_auto(settings, lambda text: on_event(StoreEvent(text)))
    named = _hub_id(settings)
    spec = model_spec(settings)
    hub_id = hub_id_with_quant(named, spec.settings.quant)
    store = ModelStore(settings.models_dir, load_catalog())
    if from_dir is not None and not from_dir.is_dir():
        raise BadSettings(f"--from-dir {from_dir} is no directory. Check the path.")
    remote = None if from_dir is None else hub_choice.look_in(from_dir, hub_id, on_event)
    if remote is None:
        remote = hub_choice.look_at(store.resolve_hub(hub_id), on_event)
    launch = launch_of(spec, remote.model, measure_machine(spec, on_event))
    plan = plan_or_explain(launch)
    print(as_text(remote.model.name, plan, launch.machine))
    hub_choice.fetch(spec, remote, plan, on_event, from_dir=from_dir)
    choice = plan.quantization if not remote.files else model_name(plan.model_path)
    chosen = replace(hub_id, choice=choice)
    model = prepare_source(store.resolve_hub(chosen), spec.settings.quant, on_event)
    for header in model.headers:
        print(
            f"Downloaded: {header.path}, {readable(header.num_file_bytes)}, from {hub_id.repo} at "
            f"{remote.repository.commit}"
        )
    return 0


def _hub_id(settings: ServeSettings) -> HubId:
    """A path or the name of a model that is here does not count, whatever its spelling."""
    name = settings.first_model or ""
    hub_id = find_repository(name)
    if hub_id is None:
        what = f"{name!r} is not a repository on a hub." if name else "Which model?"
        near = near_names(name)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise BadSettings(
            f"{what} Name it as org/repo or org/repo:QUANT, or by a name that 'appliance list "
            f"--available' shows.{hint}"
        )
    return hub_id
