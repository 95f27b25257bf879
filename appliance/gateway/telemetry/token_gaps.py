"""The times between the tokens of answers: since the start in a histogram for each model,
and of the last hour in a digest for each model and each key.

Knows no request.

Each token counts here, on the event loop: a search in a dozen bounds, a logarithm, and
two numbers that grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from appliance.gateway.telemetry.digest import Counts, WindowDigest, step_of
from appliance.gateway.telemetry.following import Gaps
from appliance.gateway.telemetry.labels import CallerLabels

# Finest where people read along, 5 to 20 tokens a second.
_BOUNDS_S = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)


class _Histogram:
    """Since the start, in Prometheus' way."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """How many are not above each bound."""
        found, total = [], 0
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class TokenGaps(Collector):
    """Implements `GapMeters`; `window_s` is how long the digests reach back."""

    def __init__(self, labels: CallerLabels, window_s: float) -> None:
        self._labels = labels
        self._window_s = window_s
        self._histograms: dict[str, _Histogram] = {}
        self._of_models: dict[str, WindowDigest] = {}
        self._of_callers: dict[str, WindowDigest] = {}
        labels.when_one_leaves(self._forget)

    def _forget(self, label: str) -> None:
        self._of_callers.pop(label, None)

    def meter(self, caller_id: str, model_id: str, /) -> Gaps:
        histogram = self._histograms.setdefault(model_id, _Histogram())
        counts = histogram.counts
        label = self._labels.label_of(caller_id)
        of_model = _digest(self._of_models, model_id, self._window_s)
        of_caller = _digest(self._of_callers, label, self._window_s)

        def observe(gap_s: float, num: int, now_s: float) -> None:
            counts[bisect_left(_BOUNDS_S, gap_s)] += num
            histogram.sum_s += gap_s * num
            step = step_of(gap_s)
            of_model.add(step, num, now_s)
            of_caller.add(step, num, now_s)

        return observe

    def of_models(self, since_s: float) -> dict[str, Counts]:
        """By model, since that time of the same clock as the gaps."""
        return {name: digest.counts_since(since_s) for name, digest in self._of_models.items()}

    def of_callers(self, since_s: float) -> dict[str, Counts]:
        """By label."""
        return {name: digest.counts_since(since_s) for name, digest in self._of_callers.items()}

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "appliance_time_between_tokens_seconds",
            "From one token of an answer to the next.",
            labels=["model"],
        )
        for model_id, histogram in [*self._histograms.items()]:
            if any(histogram.counts):
                family.add_metric([model_id], histogram.buckets(), histogram.sum_s)
        yield family


def _digest(digests: dict[str, WindowDigest], name: str, window_s: float) -> WindowDigest:
    found = digests.get(name)
    if found is None:
        found = digests[name] = WindowDigest(window_s)
    return found
