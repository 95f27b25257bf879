"""Plans and starts workers for the model manager:
from a model's name to a supervised process.

Decides nothing about memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from appliance.errors import NothingFits
from appliance.fit.plan.budget import Budget
from appliance.fit.plan.planner import Plan
from appliance.fit.plan.shares import budget_of, share_of
from appliance.launch.cpu_paths import path_memory
from appliance.launch.drafts import in_words
from appliance.launch.fallback.cpu_path import PathFallback
from appliance.launch.fallback.gpu_layers import GpuFallback
from appliance.launch.fallback.kernels import KernelFallback
from appliance.launch.fallback.quantization import QuantizationFallback, Way
from appliance.launch.fallback.replanning import Replanning
from appliance.launch.fallback.rpc_helpers import HelperFallback
from appliance.launch.files import is_prepared, prepare_model
from appliance.launch.kernels import kernel_memory
from appliance.launch.machine import measure_machine
from appliance.launch.planning import Launch, estimate, launch_of
from appliance.launch.prepare_child import prepare_in_child
from appliance.launch.quarantine import Quarantine
from appliance.launch.spec import ModelSpec
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.recall import best_plan, default_tuning, how_computed
from appliance.launch.worker import worker_config
from appliance.llama.checks import CpuPath
from appliance.store.event import OnEvent
from appliance.worker.config import WorkerConfig
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


@dataclass(frozen=True, kw_only=True)
class PlannedModel:
    """A `LoadPlan` with everything that starting it takes."""

    launch: Launch
    spec: ModelSpec
    plan: Plan
    pool: Pool
    quarantine: Quarantine
    on_event: OnEvent

    @property
    def need_bytes(self) -> int:
        return self.plan.need.own_bytes + self._prefix_bytes

    @property
    def anonymous_bytes(self) -> int:
        return self.plan.need.worker_anonymous_bytes + self._prefix_bytes

    @property
    def choice(self) -> str:
        return self.plan.choice

    @property
    def reason(self) -> str:
        return self.plan.reason

    @property
    def parts(self) -> Mapping[str, int]:
        kept = {"kept prefixes": self._prefix_bytes} if self._prefix_bytes else {}
        return {**self.plan.need.own_parts, **kept}

    @property
    def _prefix_bytes(self) -> int:
        """Of host memory for prefixes, what is planned for, even if more is set."""
        spare_bytes = self.plan.budget.usable_bytes - self.plan.need.claimed_bytes
        return min(self._config.prefix_host_bytes, spare_bytes)

    @property
    def _config(self) -> WorkerConfig:
        launch = self.launch
        return worker_config(self.plan, self.spec, launch.machine, launch.model.adapters)

    def make_worker(self) -> Supervisor:
        """Should it die of how it is computed, or of its file, in another way within the
        same bytes.
        """
        first = self._way(self.launch, self.plan)
        fallback = QuantizationFallback(first, self.quarantine, self._other_way)
        return Supervisor(first.config, on_crash=HelperFallback(fallback))

    def _other_way(self) -> Way:
        """Raises `SetupError`."""
        budget = self.pool.of_one(self.need_bytes)
        model = self.quarantine.without(self.launch.model)
        launch = replace(self.launch, model=model, budget=budget)
        return self._way(launch, best_plan(launch))

    def _way(self, launch: Launch, plan: Plan) -> Way:
        """On the best CPU path, and whatever is left when that fails."""
        name, machine, state_dir = launch.model.name, launch.machine, self.spec.state_dir
        chosen = CpuPath.EXTRA_BUFTS if plan.use_extra_bufts else CpuPath.PLAIN
        _log.info("%s: %s Computed %s.", name, plan.reason, how_computed(plan))
        if (ctx := self.spec.settings.ctx) is not None and ctx > plan.ctx:
            _log.warning(
                "%s: its context is %d and not %d, for it was trained for no more",
                name,
                plan.ctx,
                ctx,
            )
        if plan.draft is not None:
            _log.info("%s: %s", name, in_words(plan.draft))
        replanning = Replanning(
            spec=self.spec,
            model=launch.model,
            budget=self.pool.of_one(self.need_bytes),
            path=chosen,
            gpu=launch.overrides.gpu,
            on_event=self.on_event,
        )
        by_path = PathFallback(chosen, machine.paths, path_memory(state_dir), replanning.on_path)
        num_layers = plan.placement.offload.gpu_layers
        by_gpu = GpuFallback(num_layers, replanning.gpu, replanning.with_gpus, by_path)
        config = worker_config(plan, self.spec, machine, launch.model.adapters)
        return Way(
            file=plan.model_path,
            quantization=plan.quantization,
            config=config,
            on_crash=KernelFallback(config, kernel_memory(state_dir), by_gpu),
        )


class ModelLoader:
    """Implements `Loader`.

    Everything slow is done in one thread: the C library keeps freed memory for each
    thread that ever took some. `specs` are those of each model by its id. `first`, by
    id, is planned already: what its first load takes.
    """

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        pool: Pool,
        on_event: OnEvent,
        first: Mapping[str, PlannedModel] | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._specs = dict(specs)
        self._pool = pool
        self._on_event = on_event
        self._first = dict(first or {})
        self._launches: dict[str, Launch] = {}  # of the load in progress, or the last one
        self._quarantine = quarantine or Quarantine()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="planning")

    def add(self, model_id: str, spec: ModelSpec) -> None:
        """A model that may be loaded from now on."""
        self._specs[model_id] = spec

    def remove(self, model_id: str) -> None:
        """One that is loaded no more."""
        self._specs.pop(model_id, None)
        self._first.pop(model_id, None)
        self._launches.pop(model_id, None)

    async def prepare(self, model_id: str) -> None:
        if model_id in self._first:
            return
        spec = self._specs[model_id]
        on_event = self._events_of(model_id)
        if not await self._in_thread(lambda: is_prepared(spec)):
            await prepare_in_child(spec, on_event)
        self._launches[model_id] = await self._in_thread(lambda: self._new_launch(spec, on_event))

    async def want(self, model_id: str) -> PlannedModel:
        first = self._first.pop(model_id, None)
        if first is not None:
            self._launches[model_id] = first.launch
            return first
        return await self._in_thread(lambda: self._wanted(model_id))

    async def plan(self, model_id: str, num_bytes: int) -> PlannedModel:
        return await self._in_thread(lambda: self._planned(model_id, self._pool.of_one(num_bytes)))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Does it there, and gives the memory back that it took."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            trim_heap()

    def _events_of(self, model_id: str) -> OnEvent:
        """Of several models, each event says which one it is about."""
        if len(self._specs) == 1:
            return self._on_event
        return lambda event: self._on_event(replace(event, text=f"{model_id}: {event.text}"))

    def _new_launch(self, spec: ModelSpec, on_event: OnEvent) -> Launch:
        model = self._quarantine.without(prepare_model(spec, on_event))
        machine = measure_machine(spec, on_event, TimeBudget())
        return launch_of(spec, model, machine, self._pool.budget)

    def _wanted(self, model_id: str) -> PlannedModel:
        """Its share is found by arithmetic; if llama.cpp then wants more than there is
        in it, it gets all.
        """
        pool, launch = self._pool, self._launches[model_id]
        if len(self._specs) == 1:
            return self._planned(model_id, pool.budget)
        tuning = default_tuning(launch.machine)

        def by_arithmetic(budget: Budget) -> Plan:
            return estimate(launch, tuning, budget)

        share = share_of(
            by_arithmetic, pool.budget, pool.shared_bytes, len(self._specs), launch.overrides
        )
        try:
            return self._planned(model_id, share)
        except NothingFits:
            return self._planned(model_id, pool.budget)

    def _planned(self, model_id: str, budget: Budget) -> PlannedModel:
        launch = replace(self._launches[model_id], budget=budget)
        return PlannedModel(
            launch=launch,
            spec=self._specs[model_id],
            plan=best_plan(launch),
            pool=self._pool,
            quarantine=self._quarantine,
            on_event=self._on_event,
        )
