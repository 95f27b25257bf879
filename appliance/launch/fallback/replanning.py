"""What another worker is told after a crash: on another CPU path, or with other layers on GPUs.

Knows no process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.fit.plan.budget import Budget
from appliance.fit.plan.offload import GpuOverrides
from appliance.fit.tuning.choices import Tuning
from appliance.launch.files import PreparedModel, plan_model
from appliance.launch.machine import measure_machine
from appliance.launch.worker_config import worker_config
from appliance.llama.checks import CpuPath
from appliance.settings import ServeSettings
from appliance.worker.config import WorkerConfig


@dataclass(kw_only=True)
class Replanning:
    """Plans within the `budget` that the lost worker had.

    The machine is measured anew, its GPUs too: what was free before may be taken, and a
    GPU may be gone.
    """

    settings: ServeSettings
    model: PreparedModel
    budget: Budget
    path: CpuPath
    gpu_overrides: GpuOverrides

    def on_path(self, path: CpuPath) -> WorkerConfig:
        config = self._config(path, self.gpu_overrides)
        self.path = path
        return config

    def with_gpus(self, gpu_overrides: GpuOverrides) -> WorkerConfig:
        config = self._config(self.path, gpu_overrides)
        self.gpu_overrides = gpu_overrides
        return config

    def _config(self, path: CpuPath, gpu_overrides: GpuOverrides) -> WorkerConfig:
        device = measure_machine(replace(self.settings, gpu_layers=gpu_overrides.gpu_layers)).device
        tuning = Tuning(use_extra_bufts=path is CpuPath.EXTRA_BUFTS)
        return worker_config(
            plan_model(self.settings, self.model, device, tuning, gpu_overrides, self.budget),
            self.settings,
        )
