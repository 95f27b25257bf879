"""Watches the memory, and has workers do without what the ladder says.

Knows no HTTP and reads nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from appliance.fit.plan.budget import Budget, readable
from appliance.gateway.memory_snapshot import MemorySnapshot, take_snapshot
from appliance.gateway.pressure import Ladder, Marks, Rung, Sample, Step, describe, prefix_bounds
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.telemetry.gauges import MemoryState
from appliance.gateway.telemetry.metrics import Metrics
from appliance.protocol.relief import NO_RELIEF, Relief
from appliance.worker.heap import trim_heap

_log = logging.getLogger(__name__)
_INTERVAL_S = 1.0
# that a new prompt may bring beyond its known prefix, while long ones are refused
MAX_PROMPT_TOKENS = 1024

UnloadIdle = Callable[[], Awaitable[bool]]
TakeSnapshot = Callable[[list[int], int], MemorySnapshot]


class PressureWatch:
    """Checks the memory every second and climbs the ladder, so that the system never
    has to end a process first.

    `unload_idle` unloads a model that nobody uses, and returns whether there was one;
    without it, the ladder ends with refusing long prompts. `predicted_bytes` are the
    anonymous memory that a model's worker should need at most.
    """

    def __init__(
        self,
        router: Router,
        budget: Budget,
        metrics: Metrics,
        *,
        unload_idle: UnloadIdle | None = None,
        predicted_bytes: Callable[[str], int | None] = lambda _model_id: None,
        take_snapshot: TakeSnapshot = take_snapshot,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._router = router
        self._budget = budget
        self._metrics = metrics
        self._unload_idle = unload_idle
        self._predicted_bytes = predicted_bytes
        self._take_snapshot = take_snapshot
        self._clock = clock
        self._marks = Marks.within(budget.headroom_bytes)
        self._ladder = Ladder(
            self._marks, Rung.SHORT_PROMPTS if unload_idle is None else Rung.FEWER_MODELS
        )
        self._prefix_bounds: dict[str, int] = {}  # by model, while there is pressure
        self._outgrown: set[int] = set()  # processes that were warned of
        self._unmeasured: str | None = None  # why there is no snapshot now

    async def run(self) -> None:
        """Until it is cancelled; what goes wrong in one check is logged,
        and does not end the watch.
        """
        while True:
            try:
                await self.check()
            except Exception:  # noqa: BLE001 - whatever it is, requests are served and the next check may do
                _log.exception("memory could not be measured")
            await asyncio.sleep(_INTERVAL_S)

    async def check(self) -> None:
        """One snapshot of the memory, where it can be taken, and at most one step."""
        models = self._router.distinct
        model_ids = {
            pid: model.id for model in models if (pid := model.client.health().pid) is not None
        }
        try:
            snapshot = self._take_snapshot(list(model_ids), self._budget.total_bytes)
        except OSError as error:  # such as of a process without descriptors
            self._say_unmeasured(error.strerror or str(error))
            return
        self._unmeasured = None
        sample = snapshot.sample()
        step = self._ladder.step(self._clock(), sample)
        if step is not None:
            self._take(step, sample, models)
        if self._ladder.rung is not Rung.CALM:
            self._relieve(sample, models)
        self._metrics.memory = self._state(snapshot, model_ids)
        self._warn_of_growth(snapshot, model_ids)
        if step is not None and step.is_up and step.rung is Rung.FEWER_MODELS:
            await self._unload(sample)

    def _say_unmeasured(self, reason: str) -> None:
        """Once for each reason: the next check may do."""
        if reason != self._unmeasured:
            self._unmeasured = reason
            _log.warning("memory cannot be measured now, so what is held stays: %s", reason)

    def _take(self, step: Step, sample: Sample, models: Sequence[ServedModel]) -> None:
        """All of a step but the bounds,
        which workers get at every check, and the unloading.
        """
        held_bytes = {model.id: _host_prefix_bytes(model) for model in models}
        if step.is_up:
            has_choice = step.rung is Rung.FEWER_PREFIXES
            self._prefix_bounds = (
                prefix_bounds(held_bytes, sample, self._marks) if has_choice else {}
            )
            trim_heap()
        if step.rung is Rung.CALM:
            for model in models:
                model.client.relieve(NO_RELIEF)
        if step.rung is not step.before:
            bound_bytes, num_held_bytes = (
                sum(self._prefix_bounds.values()),
                sum(held_bytes.values()),
            )
            kept = f"{readable(bound_bytes)} of host memory (they took {readable(num_held_bytes)})"
            level = _log.warning if step.is_up else _log.info
            level("memory pressure %s to level %d: %s; now %s", *_words(step, sample, kept))
            self._metrics.pressure_steps.labels(
                _rung_name(step), "up" if step.is_up else "down"
            ).inc()

    def _relieve(self, sample: Sample, models: Sequence[ServedModel]) -> None:
        """Again at every check: a worker that is new, or was not ready before, does not
        know of it.
        """
        max_tokens = MAX_PROMPT_TOKENS if self._ladder.rung >= Rung.SHORT_PROMPTS else None
        for model in models:
            model.client.relieve(
                Relief(self._prefix_bounds.get(model.id, 0), max_tokens, describe(sample))
            )

    async def _unload(self, sample: Sample) -> None:
        if self._unload_idle is not None and await self._unload_idle():
            _log.warning("memory pressure: an idle model was unloaded, with %s", describe(sample))
            self._metrics.pressure_unloads.inc()

    def _state(self, snapshot: MemorySnapshot, model_ids: Mapping[int, str]) -> MemoryState:
        return MemoryState(
            server=snapshot.server,
            workers={model_ids[pid]: use for pid, use in snapshot.workers.items()},
            budget_bytes=self._budget.total_bytes,
            available_bytes=snapshot.available_bytes,
            left_bytes=snapshot.sample().left_bytes,
            rung=self._ladder.rung,
            some_stall_percent=None if snapshot.stalls is None else snapshot.stalls.some_avg10,
            full_stall_percent=None if snapshot.stalls is None else snapshot.stalls.full_avg10,
        )

    def _warn_of_growth(self, snapshot: MemorySnapshot, model_ids: Mapping[int, str]) -> None:
        """Once for each process that takes more than was predicted and the headroom
        could make up for.
        """
        for pid in snapshot.workers.keys() - self._outgrown:
            model_id, anonymous_bytes = model_ids[pid], snapshot.workers[pid].anonymous_bytes
            predicted_bytes = self._predicted_bytes(model_id)
            if (
                predicted_bytes is None
                or anonymous_bytes <= predicted_bytes + self._budget.headroom_bytes
            ):
                continue
            self._outgrown.add(pid)
            self._metrics.unforeseen_growth.labels(model_id).inc()
            _log.warning(
                "%s: worker %d uses %s of anonymous memory, but %s were predicted, with %s of "
                "headroom; please report this",
                *(model_id, pid, readable(anonymous_bytes), readable(predicted_bytes)),
                readable(self._budget.headroom_bytes),
            )


def _host_prefix_bytes(model: ServedModel) -> int:
    beat = model.client.health().heartbeat
    return 0 if beat is None else beat.prefix_host_bytes


def _rung_name(step: Step) -> str:
    """The rung that was climbed, or left downwards."""
    return max(step.before, step.rung).name.lower()


def _words(step: Step, sample: Sample, kept: str) -> tuple[str, int, str, str]:
    does = {
        Rung.CALM: "everything is as usual",
        Rung.FEWER_PREFIXES: f"saved prefixes may take {kept}",
        Rung.SHORT_PROMPTS: f"no prefix is saved, and prompts of more than {MAX_PROMPT_TOKENS} "
        "new tokens are refused",
        Rung.FEWER_MODELS: "idle models are unloaded too",
    }
    return "rises" if step.is_up else "falls", step.rung, describe(sample), does[step.rung]
