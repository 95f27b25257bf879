"""Downloads what is missing of a model: looks at the hub, plans, and fetches what fits.

Knows no formula and no HTTP; imports a hub's client, which takes a third of a second
and some memory.
"""

from __future__ import annotations

from appliance.errors import ApplianceError, NothingFits
from appliance.fit.plan.planner import Plan
from appliance.gateway.library.offers import PullPlan
from appliance.launch import hub_choice
from appliance.launch.drafts import draft_spec, is_required
from appliance.launch.files import find_source
from appliance.launch.hub_choice import RemoteModel
from appliance.launch.machine import measure_machine
from appliance.launch.planning import launch_of
from appliance.launch.spec import ModelSpec
from appliance.launch.tuning.recall import best_plan
from appliance.store.event import OnEvent, StoreEvent
from appliance.store.hub_contents import find_weights


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


def plan_pull(spec: ModelSpec, on_event: OnEvent) -> PullPlan:
    """What would be fetched of the model that `spec` names, in a hub's repository, and why.

    Raises what `hub_choice.look` and `best_plan` raise, but where nothing fits.
    """
    source = find_source(spec)
    repository = "" if source.hub is None else source.hub.repo
    if not source.must_be_pulled:
        return PullPlan(model=spec.argument, repository=repository, is_here=True)
    remote = hub_choice.look(spec, on_event)
    found = PullPlan(
        model=spec.argument,
        repository=repository,
        is_here=False,
        sizes={each.quantization: each.num_file_bytes for each in remote.model.headers},
    )
    try:
        plan = best_plan(launch_of(spec, remote.model, measure_machine(spec, on_event)))
    except NothingFits as error:
        found.reason = error.message
        return found
    found.fits = True
    found.choice, found.reason = plan.choice, plan.reason
    found.quantization, found.need_bytes = plan.quantization, plan.need.claimed_bytes
    found.download_bytes = _download_bytes(remote, plan)
    return found


def _download_bytes(remote: RemoteModel, plan: Plan) -> int:
    """A checkpoint comes with all of its weights, whatever it is converted to."""
    if remote.files:
        return remote.files[plan.model_path].num_bytes
    return sum(file.num_bytes for file in find_weights(remote.repository, None))


def _pull(spec: ModelSpec, on_event: OnEvent) -> None:
    remote = hub_choice.look(spec, on_event)
    machine = measure_machine(spec, on_event)
    plan = best_plan(launch_of(spec, remote.model, machine))
    on_event(StoreEvent(f"{remote.model.name}: {plan.reason}"))
    hub_choice.fetch(spec, remote, plan, on_event)
