"""What to do when a model cannot be loaded onto GPUs:
fewer layers once, then the CPU alone.

Knows which ends of a worker are a GPU's fault, and no process. What was free when the
plan was made may be taken since by somebody else, the estimate may be short, a GPU may
be gone.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace

from appliance.errors import SetupError
from appliance.fit.plan.offload import GpuOverrides
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, OnCrash, Remedy

_log = logging.getLogger(__name__)
_KEPT_SHARE = 0.75  # of the layers, in the second attempt
# Out of memory, llama.cpp's CUDA code aborts; drivers die in other ways too.
_LOAD_SIGNALS = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS})


class GpuFallback:
    """Answers a supervisor's crashes (`OnCrash`) of workers with layers on GPUs; all
    others go to `otherwise`.

    `plan` gives the config for a wish, of a machine that it measures anew; it raises
    `SetupError` where there is none. A worker that aborts at work may have been out of
    the GPU's memory: that costs it layers once, but never all.
    """

    def __init__(
        self,
        gpu_layers: int,
        gpu_overrides: GpuOverrides,
        plan: Callable[[GpuOverrides], WorkerConfig],
        otherwise: OnCrash,
    ) -> None:
        self._gpu_layers = gpu_layers
        self._gpu_overrides = gpu_overrides
        self._plan = plan
        self._otherwise = otherwise
        self._has_fewer = False

    def __call__(self, crash: Crash) -> Remedy | None:
        remedy = self._with_fewer(crash) if self._blames_the_gpu(crash) else self._otherwise(crash)
        if remedy is not None and remedy.config is not None:
            self._gpu_layers = remedy.config.offload.gpu_layers
        return remedy

    def _blames_the_gpu(self, crash: Crash) -> bool:
        if self._gpu_layers == 0:
            return False
        if crash.was_ready:
            return crash.status == -signal.SIGABRT and not self._has_fewer
        return crash.load_error is not None or -crash.status in _LOAD_SIGNALS

    def _with_fewer(self, crash: Crash) -> Remedy:
        failed = self._gpu_layers
        _log.error("with %d layers on GPUs a worker was %s", failed, crash)
        complaints = []
        for gpu_overrides in self._next_overrides(crash):
            try:
                config = self._plan(gpu_overrides)
            except SetupError as error:
                complaints.append(error.message)
                continue
            self._gpu_overrides = gpu_overrides
            left = config.offload.gpu_layers
            place = f"{left} layers on GPUs instead of {failed}" if left else "the CPU alone"
            return Remedy(f"going on with {place} (see docs/guide/gpu.md)", config)
        return Remedy(
            f"nothing can be served without those layers on GPUs: {'; '.join(complaints)}"
        )

    def _next_overrides(self, crash: Crash) -> Iterator[GpuOverrides]:
        """What was set by hand gives way where it cannot be had: a server that answers
        slowly is better than none.
        """
        most_layers = int(self._gpu_layers * _KEPT_SHARE)
        if not self._has_fewer and most_layers > 0:
            self._has_fewer = True
            yield replace(self._gpu_overrides, gpu_layers=None, most_layers=most_layers)
        if not crash.was_ready:
            yield replace(self._gpu_overrides, gpu_layers=0)
