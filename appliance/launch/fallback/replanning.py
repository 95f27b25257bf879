"""What another worker is told after a crash: on another CPU path, or with other layers on GPUs. Knows no process."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.fit.plan.budget import Budget
from appliance.fit.plan.offload import GpuWish
from appliance.fit.tuning.choices import Tuning
from appliance.launch.files import PreparedModel, plan_model
from appliance.launch.machine import measure_machine
from appliance.launch.worker_config import worker_config
from appliance.llama.checks import CpuPath
from appliance.settings import ServeSettings
from appliance.worker.config import WorkerConfig


@dataclass
class Replanning:
    """Plans within the `budget` that the lost worker had.

    The machine is measured anew, its GPUs too: what was free before may be taken, and a GPU may be gone.
    """

    settings: ServeSettings
    model: PreparedModel
    budget: Budget
    path: CpuPath
    wish: GpuWish

    def on_path(self, path: CpuPath) -> WorkerConfig:
        config = self._config(path, self.wish)
        self.path = path
        return config

    def with_gpus(self, wish: GpuWish) -> WorkerConfig:
        config = self._config(self.path, wish)
        self.wish = wish
        return config

    def _config(self, path: CpuPath, wish: GpuWish) -> WorkerConfig:
        device = measure_machine(replace(self.settings, gpu_layers=wish.gpu_layers)).device
        tuning = Tuning(use_extra_bufts=path is CpuPath.EXTRA_BUFTS)
        return worker_config(plan_model(self.settings, self.model, device, tuning, wish, self.budget), self.settings)
