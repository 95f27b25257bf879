"""What is counted and timed of requests, in the Prometheus format.

Knows no HTTP and no model beyond its id.
"""

from __future__ import annotations

from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.observers import ObservableRequest, ObservedRequest
from appliance.protocol.events import Delta, EmbedResult, Finished, Message
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

# From a cached prompt on a small model to a long one on a slow machine, and to what a
# queue adds.
_FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# Finest where people read along, 5 to 20 tokens a second.
_BETWEEN_TOKENS_S = (
    0.0025,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1.0,
    2.5,
)


class RequestMetrics:
    """Observes every request; the caller makes no difference."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.requests = self._counter(
            "requests", "Requests by how they ended: finish reason or error.", "outcome"
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts that were answered.")
        self.cached_tokens = self._counter(
            "cached_prompt_tokens", "Prompt tokens taken from the cache instead of being computed."
        )
        self.completion_tokens = self._counter("completion_tokens", "Tokens generated.")
        self.first_token = self._histogram(
            "time_to_first_token", "From a request's arrival to its first text.", _FIRST_TOKEN_S
        )
        self.between_tokens = self._histogram(
            "time_between_tokens", "From one token of an answer to the next.", _BETWEEN_TOKENS_S
        )

    def started(
        self, _caller: Caller, model_id: str, request: ObservableRequest, /
    ) -> ObservedRequest:
        """Questions are not counted."""
        if isinstance(request, GenerateRequest):
            return _GenerationMetrics(self, model_id)
        if isinstance(request, EmbedRequest | RerankRequest):
            return _EmbeddingMetrics(self, model_id)
        return _NoMetrics()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"appliance_{name}", text, ["model", *labels], registry=self._registry)

    def _histogram(self, name: str, text: str, buckets_s: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"appliance_{name}_seconds", text, ["model"], registry=self._registry, buckets=buckets_s
        )


class _GenerationMetrics:
    """Times the events as they are taken."""

    def __init__(self, metrics: RequestMetrics, model_id: str) -> None:
        self._metrics = metrics
        self._model_id = model_id
        self._observe_first = metrics.first_token.labels(model_id).observe
        self._observe_next = metrics.between_tokens.labels(model_id).observe
        self._arrived_s = perf_counter()
        self._last_s: float | None = None  # None until there is text of the answer's own

    def event(self, message: Message, /) -> None:
        if isinstance(message, Delta):
            # not the prompt's own text
            if message.num_tokens or self._last_s is not None:
                self._measure(message.num_tokens)
        elif isinstance(message, Finished):
            self._count_tokens(message)

    def ended(self, outcome: str, /) -> None:
        self._metrics.requests.labels(self._model_id, outcome).inc()

    def _measure(self, num_tokens: int) -> None:
        now_s = perf_counter()
        if self._last_s is None:
            self._observe_first(now_s - self._arrived_s)
        else:
            # one, unless some had no text of their own
            for _ in range(num_tokens):
                self._observe_next((now_s - self._last_s) / num_tokens)
        self._last_s = now_s

    def _count_tokens(self, finished: Finished) -> None:
        metrics, model_id, usage = self._metrics, self._model_id, finished.usage
        metrics.prompt_tokens.labels(model_id).inc(usage.num_prompt_tokens)
        metrics.cached_tokens.labels(model_id).inc(usage.num_cached_tokens)
        metrics.completion_tokens.labels(model_id).inc(usage.num_completion_tokens)


class _EmbeddingMetrics:
    """Counts a request for vectors or scores."""

    def __init__(self, metrics: RequestMetrics, model_id: str) -> None:
        self._metrics = metrics
        self._model_id = model_id

    def event(self, message: Message, /) -> None:
        if isinstance(message, EmbedResult):
            self._metrics.prompt_tokens.labels(self._model_id).inc(message.num_tokens)

    def ended(self, outcome: str, /) -> None:
        self._metrics.requests.labels(self._model_id, outcome).inc()


class _NoMetrics:
    def event(self, message: Message, /) -> None:
        pass

    def ended(self, outcome: str, /) -> None:
        pass
