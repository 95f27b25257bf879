"""Downloads what is missing of a model: looks at the hub, plans, and fetches what fits.

Knows no formula and no HTTP; imports a hub's client, which takes a third of a second
and some memory.
"""

from __future__ import annotations

from appliance.errors import ApplianceError
from appliance.launch import hub_choice
from appliance.launch.drafts import draft_spec, is_required
from appliance.launch.files import find_source
from appliance.launch.machine import measure_machine
from appliance.launch.planning import launch_of
from appliance.launch.spec import ModelSpec
from appliance.launch.tuning.recall import best_plan
from appliance.store.event import OnEvent, StoreEvent


def pull_missing(spec: ModelSpec, on_event: OnEvent) -> None:
    """The model that `spec` names and the one that drafts for it, if they are a hub's
    and not here.

    Raises what `hub_choice` and `best_plan` raise; not for a draft that was not named.
    """
    source = find_source(spec)
    if source.must_be_pulled:
        _pull(spec, on_event)
    draft = draft_spec(spec, source)
    if draft is None or not find_source(draft).must_be_pulled:
        return
    try:
        _pull(draft, on_event)
    except ApplianceError as error:
        if is_required(spec.settings):
            raise
        on_event(StoreEvent(f"--draft auto: {error.message}", is_warning=True))


def _pull(spec: ModelSpec, on_event: OnEvent) -> None:
    remote = hub_choice.look(spec, on_event)
    machine = measure_machine(spec, on_event)
    plan = best_plan(launch_of(spec, remote.model, machine))
    on_event(StoreEvent(f"{remote.model.name}: {plan.reason}"))
    hub_choice.fetch(spec, remote, plan, on_event)
