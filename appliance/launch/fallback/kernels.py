"""What to do when a worker with kernels of our own dies: go on without them.

Knows which deaths may be theirs, and no process.
"""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import msgspec

from appliance.launch.fallback.cpu_path import blames_native_code
from appliance.llama.checks import KernelLibrary, KernelMemory, KernelTest
from appliance.protocol.kernel_use import NO_KERNELS
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, OnCrash, Remedy

_log = logging.getLogger(__name__)
_MOST_DEATHS = 2  # before a file is blamed (`QuantizationFallback`)
_OF_NATIVE_CODE = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE})


class KernelFallback:
    """Answers a supervisor's crashes (`OnCrash`): gives our kernels up, in the state file
    too; without them, crashes go to `otherwise`.

    At work a request may be at fault, or llama.cpp: of such deaths there may be
    `_MOST_DEATHS`, and then this server goes on without them.

    A worker that dies while it loads may do so because of the model. That shows when the
    next one, without them, dies too before it has loaded: then what is remembered of them
    is what was before.
    """

    def __init__(self, config: WorkerConfig, memory: KernelMemory, otherwise: OnCrash) -> None:
        self._config = config
        self._memory = memory
        self._otherwise = otherwise
        self._library = KernelLibrary(Path(config.kernels.library), config.kernels.build)
        self._is_used = bool(config.kernels.library)
        self._num_deaths = 0  # at work, of native code
        self._before: KernelTest | None = None

    def __call__(self, crash: Crash) -> Remedy | None:
        if self._is_used and blames_native_code(crash):
            return self._give_up(crash)
        if self._is_used and crash.was_ready and -crash.status in _OF_NATIVE_CODE:
            self._num_deaths += 1
            if self._num_deaths > _MOST_DEATHS:
                return self._go_without(crash)
        if self._before is not None:
            if not crash.was_ready:
                self._memory.remember(self._library, self._before)
            self._before = None
        remedy = self._otherwise(crash)
        if self._is_used or remedy is None or remedy.config is None:
            return remedy
        config = msgspec.structs.replace(remedy.config, kernels=NO_KERNELS)
        return Remedy(remedy.reason, config)

    def _give_up(self, crash: Crash) -> Remedy:
        when = "at work" if crash.was_ready else "while loading a model"
        reason = f"a worker was {crash} {when}"
        before = self._memory.recall(self._library) or KernelTest()
        self._memory.remember(self._library, msgspec.structs.replace(before, failure=reason))
        self._before = None if crash.was_ready else before
        return self._without(reason)

    def _go_without(self, crash: Crash) -> Remedy:
        """In this server only: it may be anybody's fault."""
        return self._without(f"a worker was {crash} at work, {self._num_deaths} times by now")

    def _without(self, reason: str) -> Remedy:
        self._is_used = False
        _log.error("the kernels of our own are given up: %s", reason)
        return Remedy(
            "the kernels of our own are given up, going on with llama.cpp's",
            msgspec.structs.replace(self._config, kernels=NO_KERNELS),
        )
