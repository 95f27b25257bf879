"""What is counted of each key's requests, in the Prometheus format.

Knows no key, only its id. The histograms are of models alone: of both, there would be a
hundred series for each key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from appliance.gateway.telemetry.labels import CallerLabels
from appliance.gateway.telemetry.summary import RequestSummary
from appliance.protocol.questions import Question


@dataclass
class _Totals:
    """Of one key's requests to one model, since the start."""

    num_requests: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0
    num_queued: int = 0
    queue_s: float = 0.0
    num_first_tokens: int = 0
    first_token_s: float = 0.0


class KeyMetrics(Collector):
    """Counts requests at their end, by key and model; questions are not counted."""

    def __init__(self, labels: CallerLabels) -> None:
        self._labels = labels
        self._totals: dict[tuple[str, str], _Totals] = {}
        labels.when_one_leaves(self._forget)

    def _forget(self, label: str) -> None:
        self._totals = {key: each for key, each in self._totals.items() if key[0] != label}

    def request_ended(self, summary: RequestSummary, /) -> None:
        if isinstance(summary.request, Question):
            return
        label = self._labels.label_of(summary.caller_id)
        totals = self._totals.setdefault((label, summary.model_id), _Totals())
        usage = summary.usage
        totals.num_requests += 1
        totals.num_prompt_tokens += usage.num_prompt_tokens
        totals.num_cached_tokens += usage.num_cached_tokens
        totals.num_completion_tokens += usage.num_completion_tokens
        if summary.queue_s is not None:
            totals.num_queued += 1
            totals.queue_s += summary.queue_s
        if summary.first_token_s is not None:
            totals.num_first_tokens += 1
            totals.first_token_s += summary.first_token_s

    def collect(self) -> Iterator[Metric]:
        labels = ["key", "model"]
        requests = CounterMetricFamily(
            "appliance_key_requests", "Requests of each key.", labels=labels
        )
        tokens = CounterMetricFamily(
            "appliance_key_tokens",
            "Tokens of each key's prompts, those of them from the cache, and of its answers.",
            labels=[*labels, "kind"],
        )
        queue = SummaryMetricFamily(
            "appliance_key_queue_time_seconds",
            "How long each key's requests waited for a slot.",
            labels=labels,
        )
        first = SummaryMetricFamily(
            "appliance_key_time_to_first_token_seconds",
            "How long each key's requests waited for their first text.",
            labels=labels,
        )
        for key, totals in [*self._totals.items()]:
            requests.add_metric(key, totals.num_requests)
            tokens.add_metric([*key, "prompt"], totals.num_prompt_tokens)
            tokens.add_metric([*key, "cached"], totals.num_cached_tokens)
            tokens.add_metric([*key, "completion"], totals.num_completion_tokens)
            queue.add_metric(key, totals.num_queued, totals.queue_s)
            first.add_metric(key, totals.num_first_tokens, totals.first_token_s)
        yield from (requests, tokens, queue, first)
