"""`appliance pull`: shows what of a repository fits, fetches that, and makes it ready.

Knows no hub and no choice.
"""

from __future__ import annotations

from appliance.cli.fit import as_text, plan_or_explain
from appliance.errors import BadSettings
from appliance.fit.plan.budget import readable
from appliance.launch import hub_choice
from appliance.launch.files import prepare_source, wanted_of_hub
from appliance.launch.machine import measure_machine
from appliance.settings import ServeSettings
from appliance.store.catalog import load_catalog
from appliance.store.hub_id import HubId, parse_hub_id
from appliance.store.models import ModelStore


def run(settings: ServeSettings) -> int:
    hub_id = wanted_of_hub(_hub_id(settings), settings.quant)
    store = ModelStore(settings.models_dir, load_catalog())
    remote = hub_choice.look_at(store.resolve_hub(hub_id))
    machine = measure_machine(settings)
    plan = plan_or_explain(settings, remote.model, machine.device)
    print(as_text(remote.model.name, plan, machine))
    hub_choice.fetch(settings, remote, plan)
    chosen = HubId(hub_id.repo, plan.quantization if not remote.files else plan.model_path.stem)
    model = prepare_source(store.resolve_hub(chosen), settings.quant)
    for header in model.headers:
        print(
            f"Here: {header.path}, {readable(header.num_file_bytes)}, of {hub_id.repo} at "
            f"{remote.repository.commit}"
        )
    return 0


def _hub_id(settings: ServeSettings) -> HubId:
    """A path or a known name of the same spelling does not count here."""
    name = settings.first_model
    hub_id = parse_hub_id(name or "")
    if hub_id is None:
        what = "Which model?" if name is None else f"{name!r} is no repository."
        raise BadSettings(f"{what} Give it as org/repo or org/repo:QUANT.")
    return hub_id
