"""What another worker is told after a crash:
on another CPU path, or with other layers on GPUs.

Knows no process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.fit.plan.budget import Budget
from appliance.fit.plan.offload import GpuOverrides
from appliance.launch.files import PreparedModel
from appliance.launch.machine import measure_machine
from appliance.launch.planning import launch_of, plan
from appliance.launch.spec import ModelSpec
from appliance.launch.time_budget import TimeBudget
from appliance.launch.tuning.recall import tuning_on
from appliance.launch.worker import worker_config
from appliance.llama.checks import CpuPath
from appliance.store.event import OnEvent
from appliance.worker.config import WorkerConfig


@dataclass(kw_only=True)
class Replanning:
    """Plans within the `budget` that the lost worker had.

    The machine is measured anew, its GPUs too: what was free before may be taken, and a
    GPU may be gone.
    """

    spec: ModelSpec
    model: PreparedModel
    budget: Budget
    path: CpuPath
    gpu: GpuOverrides
    on_event: OnEvent

    def on_path(self, path: CpuPath) -> WorkerConfig:
        config = self._config(path, self.gpu)
        self.path = path
        return config

    def with_gpus(self, gpu: GpuOverrides) -> WorkerConfig:
        config = self._config(self.path, gpu)
        self.gpu = gpu
        return config

    def _config(self, path: CpuPath, gpu: GpuOverrides) -> WorkerConfig:
        settings = replace(self.spec.settings, gpu_layers=gpu.gpu_layers)
        spec = replace(self.spec, settings=settings)
        machine = measure_machine(spec, self.on_event, TimeBudget())
        launch = launch_of(self.spec, self.model, machine, self.budget)
        launch = replace(launch, overrides=replace(launch.overrides, gpu=gpu))
        tuning = tuning_on(path, machine)
        return worker_config(plan(launch, tuning), self.spec, machine, self.model.adapters)
