"""Plans and starts workers for residency: from a model's name to a supervised process.

Decides nothing about memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from appliance.errors import NothingFits
from appliance.fit.machine.device import measure
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.planner import Plan
from appliance.fit.plan.shares import budget_of, share_of
from appliance.launch.cpu_paths import cpu_paths, path_memory
from appliance.launch.drafts import draft_settings, in_words
from appliance.launch.fallback.cpu_path import PathFallback
from appliance.launch.fallback.gpu_layers import GpuFallback
from appliance.launch.fallback.replanning import Replanning
from appliance.launch.files import (
    PreparedModel,
    estimate_plan,
    find_source,
    overrides_of,
    prepare_model,
)
from appliance.launch.machine import gpu_overrides_of, measure_machine
from appliance.launch.prepare_child import prepare_in_child
from appliance.launch.tuning.recall import default_tuning, how_computed, plan_on_best_path
from appliance.launch.worker_config import worker_config
from appliance.llama.checks import CpuPath
from appliance.settings import ServeSettings
from appliance.store.models import are_prepared
from appliance.worker.heap import trim_heap
from appliance.worker.supervisor import Supervisor

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pool:
    """The budget of a server, of which `shared_bytes` are for what is there once,
    however many models are loaded.
    """

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
        return self.plan.need.own_bytes + self._prefix_bytes

    @property
    def anonymous_bytes(self) -> int:
        return self.plan.need.worker_anonymous_bytes + self._prefix_bytes

    @property
    def choice(self) -> str:
        plan = self.plan
        if plan.embeds:
            return f"{plan.quantization}, embedding inputs of up to {plan.ctx} tokens"
        slots = "1 slot" if plan.slots == 1 else f"{plan.slots} slots"
        return f"{plan.quantization}, context {plan.ctx}, {plan.kv_cells} cells of {plan.kv_type}, {slots}"

    @property
    def _prefix_bytes(self) -> int:
        """Of host memory for prefixes, what is planned for: who sets more than there is
        room for has his way.
        """
        spare_bytes = self.plan.budget.usable_bytes - self.plan.need.claimed_bytes
        return min(worker_config(self.plan, self.settings).prefix_host_bytes, spare_bytes)

    def make_worker(self) -> Supervisor:
        """On the best CPU path; should it die of that path, or of its GPU, in another
        way within the same bytes.
        """
        chosen = CpuPath.EXTRA_BUFTS if self.plan.use_extra_bufts else CpuPath.PLAIN
        _log.info("%s: %s Computed %s.", self.model.name, self.plan.reason, how_computed(self.plan))
        if self.plan.draft is not None:
            _log.info("%s: %s", self.model.name, in_words(self.plan.draft))
        settings, paths = self.settings, cpu_paths(self.settings, measure())
        budget = self.pool.of_one(self.need_bytes)
        replanning = Replanning(
            settings=settings,
            model=self.model,
            budget=budget,
            path=chosen,
            gpu_overrides=gpu_overrides_of(settings),
        )
        by_path = PathFallback(chosen, paths, path_memory(settings), replanning.on_path)
        num_layers = self.plan.placement.offload.gpu_layers
        fallback = GpuFallback(num_layers, replanning.gpu_overrides, replanning.with_gpus, by_path)
        return Supervisor(worker_config(self.plan, settings), on_crash=fallback)


class ModelLoader:
    """Implements `Loader`. `settings` are those of each model by its id.

    Everything slow is done in one thread: the C library keeps freed memory for each
    thread that ever took some.
    """

    def __init__(self, settings: Mapping[str, ServeSettings], pool: Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._prepared: dict[str, PreparedModel] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="planning")

    async def prepare(self, model_id: str) -> None:
        settings = self._settings[model_id]
        if not await self._in_thread(lambda: _is_prepared(settings)):
            await prepare_in_child(settings)
        self._prepared[model_id] = await self._in_thread(lambda: prepare_model(settings))

    async def want(self, model_id: str) -> PlannedModel:
        return await self._in_thread(lambda: self._wanted(model_id))

    async def plan(self, model_id: str, num_bytes: int) -> PlannedModel:
        return await self._in_thread(lambda: self._planned(model_id, self._pool.of_one(num_bytes)))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Does it there, and gives the memory back that it took."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            trim_heap()

    def _wanted(self, model_id: str) -> PlannedModel:
        """Its share is found by arithmetic; if llama.cpp then wants more than there is
        in it, it gets all.
        """
        pool, settings, model = self._pool, self._settings[model_id], self._prepared[model_id]
        if len(self._settings) == 1:
            return self._planned(model_id, pool.budget)
        device = measure_machine(settings).device
        tuning = default_tuning(cpu_paths(settings, device))

        def by_arithmetic(budget: Budget) -> Plan:
            return estimate_plan(settings, model, device, tuning, budget)

        overrides = overrides_of(settings)
        share = share_of(
            by_arithmetic, pool.budget, pool.shared_bytes, len(self._settings), overrides
        )
        try:
            return self._planned(model_id, share)
        except NothingFits:
            return self._planned(model_id, pool.budget)

    def _planned(self, model_id: str, budget: Budget) -> PlannedModel:
        settings, model = self._settings[model_id], self._prepared[model_id]
        device = measure_machine(settings).device
        plan = plan_on_best_path(settings, model, device, cpu_paths(settings, device), budget)
        return PlannedModel(model, settings, plan, self._pool)


def _is_prepared(settings: ServeSettings) -> bool:
    source = find_source(settings)
    draft = draft_settings(settings, source)
    return are_prepared(source, settings.quant) and (
        draft is None or are_prepared(find_source(draft), None)
    )
