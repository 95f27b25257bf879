"""How many steps, rows and tokens each model's engine did lately, from what its worker
counts since its start.

Knows no worker: it is shown the models every `INTERVAL_S` seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from appliance.gateway.telemetry.gauges import ModelState

INTERVAL_S = 10.0


class EngineRates(msgspec.Struct, kw_only=True):
    """Means over a window, of the time that the server watched."""

    steps_per_s: float
    rows_per_step: float | None  # None without a step
    tokens_per_s: float  # of answers


@dataclass(frozen=True)
class _Counted:
    """Since the server started, worker by worker added up."""

    at_s: float
    num_steps: int = 0
    num_rows: int = 0
    num_tokens: int = 0


_OfWorker = tuple[int, int, int]  # steps, rows, tokens, since its start
_NOTHING: _OfWorker = (0, 0, 0)


class _Engine:
    def __init__(self, window_s: float, of_worker: _OfWorker, now_s: float) -> None:
        self._counted = deque([_Counted(now_s)], maxlen=math.ceil(window_s / INTERVAL_S) + 1)
        self._of_worker = of_worker

    def observe(self, of_worker: _OfWorker | None, now_s: float) -> None:
        """None while there is no worker."""
        of_worker = of_worker or self._of_worker
        is_same = of_worker[0] >= self._of_worker[0]  # else another worker counts from zero
        before = self._of_worker if is_same else _NOTHING
        last = self._counted[-1]
        self._counted.append(
            _Counted(
                now_s,
                last.num_steps + of_worker[0] - before[0],
                last.num_rows + of_worker[1] - before[1],
                last.num_tokens + of_worker[2] - before[2],
            )
        )
        self._of_worker = of_worker

    def rates(self, since_s: float) -> EngineRates | None:
        last = self._counted[-1]
        first = next((each for each in self._counted if each.at_s >= since_s), last)
        elapsed_s, num_steps = last.at_s - first.at_s, last.num_steps - first.num_steps
        if elapsed_s <= 0:
            return None
        return EngineRates(
            steps_per_s=num_steps / elapsed_s,
            rows_per_step=(last.num_rows - first.num_rows) / num_steps if num_steps else None,
            tokens_per_s=(last.num_tokens - first.num_tokens) / elapsed_s,
        )


class EngineWatch:
    """Of the last `window_s` seconds."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._engines: dict[str, _Engine] = {}

    def observe(self, models: Iterable[ModelState], now_s: float) -> None:
        """Models that are no longer served are forgotten."""
        found = {state.model_id: _of_worker(state) for state in models}
        self._engines = {name: each for name, each in self._engines.items() if name in found}
        for model_id, of_worker in found.items():
            if (engine := self._engines.get(model_id)) is not None:
                engine.observe(of_worker, now_s)
            else:
                self._engines[model_id] = _Engine(self._window_s, of_worker or _NOTHING, now_s)

    def rates(self, since_s: float) -> dict[str, EngineRates]:
        """By model; without those that were not watched for a while yet."""
        found = {model_id: each.rates(since_s) for model_id, each in self._engines.items()}
        return {model_id: rates for model_id, rates in found.items() if rates is not None}


def _of_worker(state: ModelState) -> _OfWorker | None:
    beat = state.health.heartbeat
    return None if beat is None else (beat.num_steps, beat.num_rows, beat.num_sampled_tokens)
