"""What is counted and measured of requests, models and memory,
in the Prometheus format.

Knows no HTTP.

A registry of its own: nothing is global. What can be read at any time (how many run,
how much memory) is read when somebody asks; only what happens is counted as it happens.
Names follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from appliance.gateway.telemetry.following import FollowedRequests
from appliance.gateway.telemetry.gauges import CacheSizes, Gauges, MemoryState, ModelState
from appliance.gateway.telemetry.key_metrics import KeyMetrics
from appliance.gateway.telemetry.labels import CallerLabels
from appliance.gateway.telemetry.request_log import RequestLog
from appliance.gateway.telemetry.request_metrics import RequestMetrics
from appliance.gateway.telemetry.stats import LONGEST_S, Stats
from appliance.gateway.telemetry.token_gaps import TokenGaps
from appliance.gateway.thermal.heat import GovernedHeat

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of what `render` gives


class Metrics:
    """Counts what happens as it happens;
    reads `memory`, `heat` and what `watch` is given at each `render`.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` is in seconds."""
        self.memory: MemoryState | None = None
        self.heat: GovernedHeat | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        labels = CallerLabels(clock)
        gaps, keys = TokenGaps(labels, LONGEST_S), KeyMetrics(labels)
        log = RequestLog(labels, LONGEST_S)
        self.requests = FollowedRequests(  # observes them
            gaps, (RequestMetrics(self._registry), keys, log), clock
        )
        self.stats = Stats(log, gaps, clock)
        for collector in (gaps, keys):
            self._registry.register(collector)
        self.pressure_steps = Counter(
            "appliance_memory_pressure_steps",
            "Steps up (direction) to a rung of the memory ladder, or down from it.",
            ["rung", "direction"],
            registry=self._registry,
        )
        self.pressure_unloads = Counter(
            "appliance_memory_pressure_unloads",
            "Idle models unloaded because memory was short.",
            registry=self._registry,
        )
        self.unforeseen_growth = Counter(
            "appliance_worker_unforeseen_growth",
            "Workers found with more anonymous memory than prediction and headroom allow.",
            ["model"],
            registry=self._registry,
        )

    def watch(self, models: Callable[[], Iterable[ModelState]]) -> None:
        """From now on `render` and `stats` include the state of these models."""
        self.stats.watch(models)
        self._registry.register(Gauges(models, lambda: self.memory, lambda: self.heat))

    def watch_batches(self, num_waiting_lines: Callable[[], int]) -> None:
        """From now on `render` includes how many lines of batches wait."""
        Gauge(
            "appliance_batch_lines_waiting",
            "Lines of batches that are not answered yet.",
            registry=self._registry,
        ).set_function(num_waiting_lines)

    def watch_caches(self, sizes: Callable[[], Mapping[str, int]]) -> None:
        """From now on `render` includes how large these are, in bytes on disk, by cache."""
        self._registry.register(CacheSizes(sizes))

    def render(self) -> bytes:
        """Everything, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)
