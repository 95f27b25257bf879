"""What is counted and measured of requests, models and memory, in the Prometheus format.

Knows no HTTP.

A registry of its own: nothing is global. What can be read at any time (how many run,
how much memory) is read when somebody asks; only what happens is counted as it happens.
Names follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from appliance.errors import ApplianceError
from appliance.gateway.gauges import Gauges, MemoryState, ModelState
from appliance.protocol.events import Delta, Event, Finished

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of what `render` gives
EMBEDDED = "embedded"  # the outcome of a request for vectors or scores
CANCELLED = "cancelled"  # the outcome of a request whose client went away

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


class Metrics:
    """Counts requests and steps as they happen; `memory` and what `watch` is given are
    read at each `render`.
    """

    def __init__(self) -> None:
        self.memory: MemoryState | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = self._counter(
            "requests", "Requests by how they ended: finish reason or error.", "outcome"
        )
        self._prompt_tokens = self._counter(
            "prompt_tokens", "Tokens of prompts that were answered."
        )
        self._cached_tokens = self._counter(
            "cached_prompt_tokens", "Those of them that were not computed again."
        )
        self._completion_tokens = self._counter("completion_tokens", "Tokens generated.")
        self._first_token = self._histogram(
            "time_to_first_token", "From a request's arrival to its first text.", _FIRST_TOKEN_S
        )
        self._between_tokens = self._histogram(
            "time_between_tokens", "From one token of an answer to the next.", _BETWEEN_TOKENS_S
        )
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
        self.unforeseen_growth = self._counter(
            "worker_unforeseen_growth",
            "Workers found with more anonymous memory than predicted and headroom.",
        )

    def watch(self, models: Callable[[], Iterable[ModelState]]) -> None:
        """From now on `render` tells how these models are."""
        self._registry.register(Gauges(models, lambda: self.memory))

    def render(self) -> bytes:
        """Everything, in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def count_request(self, model_id: str, outcome: str) -> None:
        self._requests.labels(model_id, outcome).inc()

    async def observed(
        self, model_id: str, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        """The same events, timed as they are taken; closing this early closes `events`,
        and counts as cancelled.
        """
        observe_first = self._first_token.labels(model_id).observe
        observe_next = self._between_tokens.labels(model_id).observe
        outcome = CANCELLED
        arrived_s, last_s = perf_counter(), None
        try:
            async for event in events:
                # not the prompt's own text
                if isinstance(event, Delta) and (event.num_tokens or last_s is not None):
                    now_s = perf_counter()
                    if last_s is None:
                        observe_first(now_s - arrived_s)
                    else:
                        # one, unless some had no text of their own
                        for _ in range(event.num_tokens):
                            observe_next((now_s - last_s) / event.num_tokens)
                    last_s = now_s
                elif isinstance(event, Finished):
                    outcome = event.reason.value
                    self._count_tokens(model_id, event)
                yield event
        except ApplianceError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = ApplianceError.code
            raise
        finally:
            self.count_request(model_id, outcome)
            await events.aclose()

    @contextmanager
    def counted(self, model_id: str) -> Iterator[None]:
        """Around a request that is answered in one piece; leaving by cancellation
        counts as cancelled.
        """
        outcome = CANCELLED
        try:
            yield
            outcome = EMBEDDED
        except ApplianceError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = ApplianceError.code
            raise
        finally:
            self.count_request(model_id, outcome)

    def count_prompt_tokens(self, model_id: str, num_tokens: int) -> None:
        self._prompt_tokens.labels(model_id).inc(num_tokens)

    def _count_tokens(self, model_id: str, finished: Finished) -> None:
        usage = finished.usage
        self._prompt_tokens.labels(model_id).inc(usage.num_prompt_tokens)
        self._cached_tokens.labels(model_id).inc(usage.num_cached_tokens)
        self._completion_tokens.labels(model_id).inc(usage.num_completion_tokens)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"appliance_{name}", text, ["model", *labels], registry=self._registry)

    def _histogram(self, name: str, text: str, buckets_s: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"appliance_{name}_seconds", text, ["model"], registry=self._registry, buckets=buckets_s
        )
