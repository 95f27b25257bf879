"""The times between the tokens of answers: since the start in a histogram for each model,
and of the last hour in a digest for each model and key.

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
        self._digests: dict[tuple[str, str], WindowDigest] = {}  # by model and label
        labels.when_one_leaves(self._forget)

    def _forget(self, label: str) -> None:
        self._digests = {key: each for key, each in self._digests.items() if key[1] != label}

    def meter(self, caller_id: str, model_id: str, /) -> Gaps:
        histogram = self._histograms.setdefault(model_id, _Histogram())
        counts = histogram.counts
        key = (model_id, self._labels.label_of(caller_id))
        if (digest := self._digests.get(key)) is None:
            digest = self._digests[key] = WindowDigest(self._window_s)
        add = digest.add

        def observe(gap_s: float, num: int, now_s: float) -> None:
            counts[bisect_left(_BOUNDS_S, gap_s)] += num
            histogram.sum_s += gap_s * num
            add(step_of(gap_s), num, now_s)

        return observe

    def of_models(self, since_s: float) -> dict[str, Counts]:
        """By model, since that time of the same clock as the gaps."""
        return self._merged(since_s, 0)

    def of_callers(self, since_s: float) -> dict[str, Counts]:
        """By label."""
        return self._merged(since_s, 1)

    def _merged(self, since_s: float, part: int) -> dict[str, Counts]:
        """By one part of the digests' keys."""
        found: dict[str, Counts] = {}
        for key, digest in self._digests.items():
            counts = found.setdefault(key[part], {})
            for step, num in digest.counts_since(since_s).items():
                counts[step] = counts.get(step, 0) + num
        return found

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
