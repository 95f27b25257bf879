"""What to do when a model's workers die of its file, or so it seems: serve another
quantization of it.

Knows which deaths are a file's fault, and no process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import AdapterFailed, SetupError
from appliance.launch.quarantine import Quarantine
from appliance.worker.config import WorkerConfig
from appliance.worker.crash import Crash, OnCrash, Remedy
from appliance.worker.suspects import may_be_a_requests_fault

_MOST_DEATHS = 2  # at work, within
_WINDOW_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """One file of a model with how it is computed."""

    file: Path
    quantization: str
    config: WorkerConfig
    on_crash: OnCrash  # what else may be to blame, and is blamed first


class QuantizationFallback:
    """Answers a supervisor's crashes (`OnCrash`): what is left when nothing else of a way
    can be blamed is its file. One that cannot be loaded, or that kills three workers
    within ten minutes, is put in quarantine.

    `other` gives a way for what is not there; it raises `SetupError` where there is none.
    """

    def __init__(
        self,
        first: Way,
        quarantine: Quarantine,
        other: Callable[[], Way],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._way = first
        self._quarantine = quarantine
        self._other = other
        self._clock = clock
        self._deaths_s: list[float] = []  # at work

    def __call__(self, crash: Crash) -> Remedy | None:
        remedy = self._way.on_crash(crash)
        if remedy is not None and remedy.config is not None:
            self._deaths_s.clear()
            return remedy
        return self._with_other(crash, remedy) if self._is_to_blame(crash) else remedy

    def _is_to_blame(self, crash: Crash) -> bool:
        if crash.load_code == AdapterFailed.code:
            return False
        if not may_be_a_requests_fault(crash) and crash.load_error is None:
            return False
        if not crash.was_ready:
            return True
        now_s = self._clock()
        self._deaths_s = [at_s for at_s in self._deaths_s if now_s - at_s < _WINDOW_S] + [now_s]
        return len(self._deaths_s) > _MOST_DEATHS

    def _with_other(self, crash: Crash, remedy: Remedy | None) -> Remedy | None:
        given_up = self._way
        often = f", {len(self._deaths_s)} times in ten minutes" if crash.was_ready else ""
        self._quarantine.put(given_up.file, f"its worker was {crash}{often}")
        self._deaths_s.clear()
        try:
            way = self._other()
        except SetupError:
            return remedy
        if way.file == given_up.file:
            return remedy
        self._way = way
        return Remedy(
            f"{given_up.quantization} is given up for a while{often}, going on with "
            f"{way.quantization}",
            way.config,
        )
