"""What to do when a worker dies of its CPU path:
give that path up, and go on with the other one.

Knows which deaths are a path's fault, and no process.
"""

from __future__ import annotations

import datetime
import logging
import signal
from collections.abc import Callable

from appliance.errors import SetupError
from appliance.llama.checks import CpuPath, CpuPaths, Demotion, PathMemory
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, Remedy

_log = logging.getLogger(__name__)
# While loading and warming up, nothing but native code on the model's weights runs.
_LOAD_SIGNALS = frozenset({signal.SIGILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS})


class PathFallback:
    """Answers a supervisor's crashes (`OnCrash`): demotes the path in the state file
    and plans on the other one.

    A worker that dies while it loads may also do so because of the model. That shows
    when the other path dies of it too, before it ever loaded: then the demotion is
    taken back. `plan` gives the config for a path; it raises `SetupError` where there
    is none, for extra buffer types take more memory.
    """

    def __init__(
        self,
        path: CpuPath,
        paths: CpuPaths,
        memory: PathMemory,
        plan: Callable[[CpuPath], WorkerConfig],
    ) -> None:
        self._path = path
        self._paths = paths
        self._memory = memory
        self._plan = plan
        self._loaded: set[CpuPath] = set()
        self._has_switched = False

    def __call__(self, crash: Crash) -> Remedy | None:
        if crash.was_ready:
            self._loaded.add(self._path)
        if not blames_native_code(crash):
            return None
        if self._has_switched and self._path not in self._loaded:
            return self._both_died()
        return self._switch(crash)

    def _switch(self, crash: Crash) -> Remedy:
        given_up, other = self._path, self._path.other
        self._paths = self._memory.recall() or self._paths
        if not self._paths.of(other).usable:
            return Remedy(
                f"no other CPU path is usable ({other.label}: {self._paths.of(other).finding})"
            )
        try:
            config = self._plan(other)
        except SetupError as error:
            return Remedy(f"the other CPU path, {other.label}, cannot be used: {error.message}")
        when = "at work" if crash.was_ready else "while loading a model"
        today = datetime.date.today().isoformat()  # noqa: DTZ011 - the user's own day
        self._demote(given_up, Demotion(f"a worker was {crash} {when}", today))
        self._path, self._has_switched = other, True
        return Remedy(
            f"the CPU path {given_up.label} is given up, going on with {other.label}", config
        )

    def _both_died(self) -> Remedy:
        """The other path died loading too: neither is to blame.

        Back to the first one, if that had worked at all.
        """
        first = self._path.other
        self._paths = self._memory.recall() or self._paths
        self._demote(first, None)
        words = (
            f"{self._path.label} and {first.label} both died of this model, so no CPU path is "
            "given up for it"
        )
        if first not in self._loaded:
            return Remedy(
                f"{words}; the file may be damaged, or llama.cpp not able to run it: "
                "see `appliance doctor`"
            )
        try:
            config = self._plan(first)
        except SetupError as error:
            return Remedy(f"{words}; {first.label} cannot be used now: {error.message}")
        self._path, self._has_switched = first, False
        return Remedy(f"{words}; going on with {first.label}", config)

    def _demote(self, path: CpuPath, demotion: Demotion | None) -> None:
        self._paths = self._paths.with_demotion(path, demotion)
        self._memory.remember(self._paths)
        if demotion is not None:
            _log.error("the CPU path %s is given up: %s", path.label, demotion.reason)


def blames_native_code(crash: Crash) -> bool:
    """An illegal instruction is always a CPU path's, or a kernel's; any other death of
    native code only before the first request, for that may be at fault.

    A worker that exited by itself, and said why it cannot load, did not die of its CPU
    path.
    """
    if crash.load_error is not None and crash.status >= 0:
        return False
    if crash.status == -signal.SIGILL:
        return True
    return not crash.was_ready and -crash.status in _LOAD_SIGNALS
