"""What is counted and timed of requests, in the Prometheus format.

Knows no HTTP and no model beyond its id.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from appliance.gateway.telemetry.summary import RequestSummary
from appliance.protocol.events import CacheUse
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

# From a cached prompt on a small model to a long one on a slow machine, and to what a
# queue adds.
_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_QUEUE_S = (0.001, 0.005, *_FIRST_TOKEN_S)
_WHOLE_S = (*_FIRST_TOKEN_S, 600.0, 1800.0)


class RequestMetrics:
    """Counts requests at their end; the caller makes no difference."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = self._counter(
            "requests", "Requests by how they ended: finish reason or error.", "outcome"
        )
        self._prompt_tokens = self._counter(
            "prompt_tokens", "Tokens of prompts that were answered."
        )
        self._cached_tokens = self._counter(
            "cached_prompt_tokens", "Prompt tokens taken from the cache instead of being computed."
        )
        self._moved_tokens = self._counter(
            "moved_prompt_tokens",
            "Prompt tokens of them taken from another place of another prompt (--cache-reuse).",
        )
        self._completion_tokens = self._counter("completion_tokens", "Tokens generated.")
        self._replayed_tokens = self._counter(
            "replayed_tokens", "Tokens of answers taken from the response cache."
        )
        self._cache_requests = self._counter(
            "cache_requests",
            "Requests that the response or the embedding cache was asked for: all of it was there "
            "(hit), or not (miss).",
            *("cache", "result"),
        )
        self._queue = self._histogram(
            "queue_time",
            "From a request's arrival until it had a slot: in line, while its model was loaded, "
            "while its prompt was tokenized.",
            _QUEUE_S,
        )
        self._first_token = self._histogram(
            "time_to_first_token", "From a request's arrival to its first text.", _FIRST_TOKEN_S
        )
        self._whole = self._histogram(
            "request_time", "From a request's arrival to its end, where it was answered.", _WHOLE_S
        )

    def request_ended(self, summary: RequestSummary, /) -> None:
        """Questions are not counted."""
        if not isinstance(summary.request, GenerateRequest | EmbedRequest | RerankRequest):
            return
        model_id, usage = summary.model_id, summary.usage
        self._requests.labels(model_id, summary.outcome).inc()
        if usage.num_prompt_tokens:
            self._prompt_tokens.labels(model_id).inc(usage.num_prompt_tokens)
            self._cached_tokens.labels(model_id).inc(usage.num_cached_tokens)
        is_generation = isinstance(summary.request, GenerateRequest)
        if summary.cache is not CacheUse.NONE:
            cache = "response" if is_generation else "embedding"
            self._cache_requests.labels(model_id, cache, summary.cache.value).inc()
        if is_generation and usage.num_prompt_tokens:
            self._moved_tokens.labels(model_id).inc(usage.num_moved_tokens)
            is_replayed = summary.cache is CacheUse.HIT
            tokens = self._replayed_tokens if is_replayed else self._completion_tokens
            tokens.labels(model_id).inc(usage.num_completion_tokens)
        if summary.queue_s is not None:
            self._queue.labels(model_id).observe(summary.queue_s)
        if summary.first_token_s is not None:
            self._first_token.labels(model_id).observe(summary.first_token_s)
        if usage.num_prompt_tokens:
            self._whole.labels(model_id).observe(summary.total_s)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"appliance_{name}", text, ["model", *labels], registry=self._registry)

    def _histogram(self, name: str, text: str, buckets_s: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"appliance_{name}_seconds", text, ["model"], registry=self._registry, buckets=buckets_s
        )
