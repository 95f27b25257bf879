"""What is planned before anything is loaded: the memory for all models together, and the
one that is loaded at the start.

Knows no gateway and no server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.fit.plan.budget import Budget, memory_budget, readable
from appliance.fit.plan.footprint import shared_bytes
from appliance.fit.plan.shares import body_bytes_for_all, longest_ctx
from appliance.launch.files import is_prepared, prepare_model
from appliance.launch.loader import PlannedModel, Pool
from appliance.launch.machine import (
    Machine,
    measure_hardware,
    measure_machine,
    with_cpu_paths,
)
from appliance.launch.names import NamedModel, embedded_spec
from appliance.launch.planning import launch_of
from appliance.launch.prepare_child import prepare_in_child
from appliance.launch.quarantine import Quarantine
from appliance.launch.spec import ModelSpec
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.bench import OtherWork
from appliance.launch.tuning.first_start import tune_at_first_start
from appliance.launch.tuning.recall import best_plan, untuned_plan
from appliance.llama.checks import CpuPath
from appliance.settings import ServeSettings
from appliance.store.event import OnEvent

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StartPlan:
    """The models to serve, and the memory that they share."""

    models: Sequence[NamedModel]
    pool: Pool
    body_bytes: int  # the largest request body
    planned: PlannedModel | None  # a single model that is loaded at the start


def plan_start(
    settings: ServeSettings,
    models: Sequence[NamedModel],
    quarantine: Quarantine,
    on_event: OnEvent,
) -> StartPlan:
    """Raises `SetupError` where serving is impossible.

    A single model that is loaded at the start is prepared and planned here, so that
    whatever is wrong with it is reported at once; of several each is prepared when it
    is loaded, and one that is not there costs only its own requests; none is tuned, for
    others may be running by then.
    """
    if len(models) == 1 and models[0].is_preloaded:
        planned = _plan_only(models[0].spec, quarantine, on_event)
        body_bytes = planned.plan.max_body_bytes
        return StartPlan(models=models, pool=planned.pool, body_bytes=body_bytes, planned=planned)
    budget = _budget_of_all(settings, on_event)
    longest = longest_ctx([model.spec.settings.ctx for model in models])
    body_bytes = settings.max_body_bytes or body_bytes_for_all(longest, budget)
    pool = Pool(budget, shared_bytes(body_bytes))
    _log.info(
        "memory for all models together: %s (%s)",
        readable(max(0, pool.models_bytes)),
        budget.explanation,
    )
    bounded = [
        replace(model, spec=replace(model.spec, max_body_bytes=body_bytes)) for model in models
    ]
    return StartPlan(models=bounded, pool=pool, body_bytes=body_bytes, planned=None)


def _plan_only(spec: ModelSpec, quarantine: Quarantine, on_event: OnEvent) -> PlannedModel:
    """The plan that is loaded at the start, tuned; what a hub has of the model is
    pulled first.
    """
    hardware = measure_hardware(spec.settings)  # first: a GPU that is not there is said at once
    if not is_prepared(spec):
        asyncio.run(prepare_in_child(spec, on_event))
    model = prepare_model(spec, on_event)
    budget, others = TimeBudget(), OtherWork()
    launch = launch_of(spec, model, with_cpu_paths(hardware, spec, on_event, budget))
    _log_machine(launch.machine)
    untuned = untuned_plan(launch)
    if not spec.settings.no_tune:
        tune_at_first_start(launch, untuned, on_event, budget, others)
    plan = best_plan(launch, untuned)
    pool = Pool(plan.budget, plan.need.shared_bytes)
    return PlannedModel(
        launch=launch, spec=spec, plan=plan, pool=pool, quarantine=quarantine, on_event=on_event
    )


def _budget_of_all(settings: ServeSettings, on_event: OnEvent) -> Budget:
    machine = measure_machine(embedded_spec(settings), on_event, TimeBudget())
    _log_machine(machine)
    return memory_budget(machine.device, settings.ram)


def _log_machine(machine: Machine) -> None:
    if machine.gpu_finding is not None:
        _log.info("computing on the CPU: %s", machine.gpu_finding)
    for path in CpuPath:
        found = machine.paths.of(path)
        if not found.usable and not found.waits_for:
            _log.warning(
                "%s are not used: %s (run 'appliance doctor' for more)",
                path.label,
                machine.paths.of(path).finding,
            )
