"""The state of models and memory at the moment of a scrape, as Prometheus metrics.

Counts nothing and knows no request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.gateway.queue.turns import NOBODY, LineState
from appliance.gateway.thermal.heat import GovernedHeat
from appliance.protocol.health import WorkerHealth
from appliance.protocol.model_info import ModelInfo
from appliance.worker.memory_use import MemoryUse


@dataclass(frozen=True)
class ModelState:
    """One served model as it is now."""

    model_id: str
    info: ModelInfo | None
    health: WorkerHealth
    line: LineState = NOBODY


@dataclass(frozen=True, kw_only=True)
class MemoryState:
    """The memory at the last snapshot."""

    server: MemoryUse
    workers: Mapping[str, MemoryUse]  # by model, without those that have no process
    budget_bytes: int
    available_bytes: int  # of the machine
    left_bytes: int  # of the tightest bound
    rung: int
    # of the last ten seconds; None where the system does not report it
    some_stall_percent: float | None = None
    full_stall_percent: float | None = None


class Gauges(Collector):
    """Reads `models`, `memory` and `heat` at every scrape; what nobody knows yet is a
    metric without samples.
    """

    def __init__(
        self,
        models: Callable[[], Iterable[ModelState]],
        memory: Callable[[], MemoryState | None],
        heat: Callable[[], GovernedHeat | None] = lambda: None,
    ) -> None:
        self._models = models
        self._memory = memory
        self._heat = heat

    def collect(self) -> Iterator[Metric]:
        models = list(self._models())
        yield from _lines(models)
        yield from _engine(models)
        yield from _steps(models)
        yield from _drafts(models)
        yield from _workers(models)
        memory = self._memory()
        yield from _memory(memory)
        yield from _stalls(memory)
        yield from _heat_of(self._heat())


class CacheSizes(Collector):
    """Reads `sizes`, in bytes on disk by cache, at every scrape."""

    def __init__(self, sizes: Callable[[], Mapping[str, int]]) -> None:
        self._sizes = sizes

    def collect(self) -> Iterator[Metric]:
        on_disk = _gauge("cache_bytes", "What the response and the embedding cache hold.", "cache")
        for cache, num_bytes in self._sizes().items():
            on_disk.add_metric([cache], num_bytes)
        yield on_disk


def _lines(models: list[ModelState]) -> Iterator[Metric]:
    requests = _gauge("line_requests", "Requests that wait for their turn at the model.", "model")
    tokens = _gauge(
        "line_tokens", "Tokens that these are expected to take, answers included.", "model"
    )
    oldest = _gauge("line_oldest_seconds", "How long the oldest of them has waited.", "model")
    for model in models:
        requests.add_metric([model.model_id], model.line.num_waiting)
        tokens.add_metric([model.model_id], model.line.num_waiting_tokens)
        oldest.add_metric([model.model_id], model.line.oldest_wait_s)
    yield from (requests, tokens, oldest)


def _engine(models: list[ModelState]) -> Iterator[Metric]:
    running = _gauge("requests_running", "Requests being answered.", "model")
    waiting = _gauge("requests_waiting", "Requests in the queue of the engine.", "model")
    used = _gauge("kv_cells_used", "Cells of the KV cache that hold a token.", "model")
    prefixes = _gauge("host_prefix_bytes", "Saved prefixes in host memory.", "model")
    cells = _gauge("kv_cells", "Cells of the KV cache.", "model")
    for model in models:
        if (beat := model.health.heartbeat) is not None:
            running.add_metric([model.model_id], beat.num_running)
            waiting.add_metric([model.model_id], beat.num_waiting)
            used.add_metric([model.model_id], beat.num_used_cells)
            prefixes.add_metric([model.model_id], beat.prefix_host_bytes)
        if model.info is not None:
            cells.add_metric([model.model_id], model.info.kv_cells)
    yield from (running, waiting, used, cells, prefixes)


def _steps(models: list[ModelState]) -> Iterator[Metric]:
    """Since each worker started."""
    steps = _counter("engine_steps", "Steps of the engine: one decode for all running sequences.")
    rows = _counter("engine_rows", "Rows computed in these steps, each a token of somebody's.")
    for model in models:
        if (beat := model.health.heartbeat) is not None:
            steps.add_metric([model.model_id], beat.num_steps)
            rows.add_metric([model.model_id], beat.num_rows)
    yield from (steps, rows)


def _drafts(models: list[ModelState]) -> Iterator[Metric]:
    """Since each worker started."""
    drafted = _counter("drafted_tokens", "Tokens drafted by speculation.")
    accepted = _counter("accepted_draft_tokens", "Drafted tokens that were accepted.")
    gain = _gauge(
        "draft_gain_seconds",
        "Decoding time that speculation saved: as expected when it was decided, and by the clock "
        "(negative: lost).",
        *("model", "kind"),
    )
    for model in models:
        if (beat := model.health.heartbeat) is not None:
            drafted.add_metric([model.model_id], beat.drafts.num_drafted)
            accepted.add_metric([model.model_id], beat.drafts.num_accepted)
            gain.add_metric([model.model_id, "expected"], beat.drafts.expected_ms / 1000)
            gain.add_metric([model.model_id, "real"], beat.drafts.real_ms / 1000)
    yield from (drafted, accepted, gain)


def _workers(models: list[ModelState]) -> Iterator[Metric]:
    restarts = _counter("worker_restarts", "Worker processes that replaced one that died.")
    for model in models:
        restarts.add_metric([model.model_id], model.health.num_restarts)
    yield restarts


def _memory(memory: MemoryState | None) -> Iterator[Metric]:
    resident = _gauge(
        "process_memory_bytes",
        "Resident memory of the server and of each model's worker: anonymous, or of mapped files.",
        *("process", "model", "kind"),
    )
    budget = _gauge("memory_budget_bytes", "What the plan may take at most.")
    available = _gauge("memory_available_bytes", "What the machine could give without swapping.")
    left = _gauge(
        "memory_left_bytes", "What is left of the tightest bound: budget, machine or control group."
    )
    rung = _gauge(
        "memory_pressure_level", "0 calm, 1 fewer prefixes, 2 short prompts only, 3 fewer models."
    )
    if memory is not None:
        for kind, num_bytes in _kinds(memory.server):
            resident.add_metric(["server", "", kind], num_bytes)
        for model_id, use in memory.workers.items():
            for kind, num_bytes in _kinds(use):
                resident.add_metric(["worker", model_id, kind], num_bytes)
        budget.add_metric([], memory.budget_bytes)
        available.add_metric([], memory.available_bytes)
        left.add_metric([], memory.left_bytes)
        rung.add_metric([], memory.rung)
    yield from (resident, budget, available, left, rung)


def _stalls(memory: MemoryState | None) -> Iterator[Metric]:
    stalls = _gauge(
        "memory_stall_ratio",
        "Share of the last 10 s in which some task, or all (full), waited for memory, as the "
        "kernel reports it.",
        "kind",
    )
    if memory is not None:
        for kind, percent in (
            ("some", memory.some_stall_percent),
            ("full", memory.full_stall_percent),
        ):
            if percent is not None:
                stalls.add_metric([kind], percent / 100)
    yield stalls


def _heat_of(heat: GovernedHeat | None) -> Iterator[Metric]:
    celsius = _gauge("heat_celsius", "Temperature of the machine's hottest part.")
    margin = _gauge("heat_margin_celsius", "How far it is from where the machine slows down.")
    throttles = _gauge("heat_throttling", "1 while heat slows the machine down.")
    share = _gauge("heat_share_ratio", "Share of the machine's power that models may use.")
    if heat is not None:
        if heat.celsius is not None:
            celsius.add_metric([], heat.celsius)
        if heat.margin_celsius is not None:
            margin.add_metric([], heat.margin_celsius)
        throttles.add_metric([], heat.throttles)
        share.add_metric([], heat.share)
    yield from (celsius, margin, throttles, share)


def _kinds(use: MemoryUse) -> tuple[tuple[str, int], ...]:
    return (("anonymous", use.anonymous_bytes), ("file", use.file_bytes))


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"appliance_{name}", text, labels=labels)


def _counter(name: str, text: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"appliance_{name}", text, labels=["model"])
