"""Plans and starts workers for residency: from a model's name to a supervised process. Decides nothing about memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.cli.cpu_path import cpu_paths, path_memory
from appliance.cli.gpu_fallback import GpuFallback
from appliance.cli.gpus import gpu_wish, measure_machine
from appliance.cli.path_fallback import PathFallback
from appliance.cli.prepare import PreparedModel, find_source, prepare_model, wishes_of
from appliance.cli.prepare_child import prepare_in_child
from appliance.cli.replanning import Replanning
from appliance.cli.tuned import how_computed, plan_on_best_path
from appliance.cli.worker_config import worker_config
from appliance.fit.budget import Budget
from appliance.fit.device import measure
from appliance.fit.plan import Plan
from appliance.fit.shares import budget_of, own_bytes, plan_in_share
from appliance.llama.selftest import CpuPath
from appliance.settings import ServeSettings
from appliance.store.models import are_prepared
from appliance.worker.supervisor import Supervisor

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pool:
    """The budget of a server, of which `shared_bytes` are for what is there once, however many models are loaded."""

    budget: Budget
    shared_bytes: int

    @property
    def models_bytes(self) -> int:
        """For all workers together."""
        return self.budget.usable_bytes - self.shared_bytes

    def of_one(self, num_bytes: int) -> Budget:
        return budget_of(self.budget, num_bytes, self.shared_bytes)


@dataclass(frozen=True)
class PlannedModel:
    """A `LoadPlan` with everything that starting it takes."""

    model: PreparedModel
    settings: ServeSettings
    plan: Plan
    pool: Pool

    @property
    def need_bytes(self) -> int:
        return own_bytes(self.plan.need) + self._prefix_bytes

    @property
    def anonymous_bytes(self) -> int:
        return self.plan.need.worker_anonymous_bytes + self._prefix_bytes

    @property
    def choice(self) -> str:
        plan = self.plan
        slots = "1 slot" if plan.slots == 1 else f"{plan.slots} slots"
        return f"{plan.quantization}, context {plan.ctx}, {plan.kv_cells} cells of {plan.kv_type}, {slots}"

    @property
    def _prefix_bytes(self) -> int:
        """Of host memory for prefixes, what is planned for: who sets more than there is room for has his way."""
        spare_bytes = self.plan.budget.usable_bytes - self.plan.need.total_bytes
        return min(worker_config(self.plan, self.settings).prefix_host_bytes, spare_bytes)

    def make_worker(self) -> Supervisor:
        """On the best CPU path; should it die of that path, or of its GPU, in another way within the same bytes."""
        chosen = CpuPath.EXTRA_BUFTS if self.plan.use_extra_bufts else CpuPath.PLAIN
        _log.info("%s: %s Computed %s.", self.model.name, self.plan.reason, how_computed(self.plan))
        settings, paths = self.settings, cpu_paths(self.settings, measure())
        budget = self.pool.of_one(self.need_bytes)
        replanning = Replanning(settings, self.model, budget, chosen, gpu_wish(settings))
        by_path = PathFallback(chosen, paths, path_memory(settings), replanning.on_path)
        num_layers = self.plan.placement.offload.gpu_layers
        fallback = GpuFallback(num_layers, replanning.wish, replanning.with_gpus, by_path)
        return Supervisor(worker_config(self.plan, settings), on_crash=fallback)


class ModelLoader:
    """Implements `Loader`. `settings` are those of each model by its id."""

    def __init__(self, settings: Mapping[str, ServeSettings], pool: Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._prepared: dict[str, PreparedModel] = {}

    async def prepare(self, model_id: str) -> None:
        settings = self._settings[model_id]
        if not await asyncio.to_thread(_is_prepared, settings):
            await prepare_in_child(settings)
        self._prepared[model_id] = await asyncio.to_thread(prepare_model, settings)

    async def want(self, model_id: str) -> PlannedModel:
        def wanted(plan_within: Callable[[Budget], Plan]) -> Plan:
            pool, wishes = self._pool, wishes_of(self._settings[model_id])
            return plan_in_share(plan_within, pool.budget, pool.shared_bytes, len(self._settings), wishes)

        return await asyncio.to_thread(self._planned, model_id, wanted)

    async def plan(self, model_id: str, num_bytes: int) -> PlannedModel:
        budget = self._pool.of_one(num_bytes)
        return await asyncio.to_thread(self._planned, model_id, lambda plan_within: plan_within(budget))

    def _planned(self, model_id: str, choose: Callable[[Callable[[Budget], Plan]], Plan]) -> PlannedModel:
        settings, model, device = (
            self._settings[model_id],
            self._prepared[model_id],
            measure_machine(self._settings[model_id]).device,
        )
        paths = cpu_paths(settings, device)
        plan = choose(lambda budget: plan_on_best_path(settings, model, device, paths, budget))
        return PlannedModel(model, settings, plan, self._pool)


def _is_prepared(settings: ServeSettings) -> bool:
    return are_prepared(find_source(settings), settings.quant)
