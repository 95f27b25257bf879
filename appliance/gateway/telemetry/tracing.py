"""OpenTelemetry spans of each answer: queue, prefill and decode, below one for the whole.

Knows no exporter. Needs `opentelemetry-api`, which only the extra `otel` brings: nobody
imports this module without it.

Spans are made when the answer has ended, from the times that were noted: tracing costs
nothing while tokens come. Names of attributes:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from appliance.gateway.telemetry.origin import Origin
from appliance.gateway.telemetry.summary import RequestSummary
from appliance.protocol.requests import ChatPrompt, EmbedRequest, GenerateRequest, RerankRequest

_NS = 1_000_000_000
_GOOD = frozenset({"stop", "length", "embedded"})  # the client's leaving is no error either
_LEFT = "cancelled"
_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Implements `SummaryListener`; the tracer's provider hands spans on beside us."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def request_ended(self, summary: RequestSummary, /) -> None:
        """Questions have no spans: nothing is computed."""
        if (operation := _operation(summary)) is None:
            return
        span = self._tracer.start_span(
            f"{operation} {summary.model_id}",
            context=_parent(summary.origin),
            kind=SpanKind.SERVER,
            start_time=summary.arrived_ns,
            attributes={"gen_ai.operation.name": operation, **_attributes(summary)},
        )
        if summary.outcome not in _GOOD and summary.outcome != _LEFT:
            span.set_attribute("error.type", summary.outcome)
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        for name, begin_s, end_s in _stages(summary):
            stage = self._tracer.start_span(
                name, context=inside, start_time=summary.arrived_ns + int(begin_s * _NS)
            )
            stage.end(summary.arrived_ns + int(end_s * _NS))
        span.end(summary.arrived_ns + int(summary.total_s * _NS))


def _operation(summary: RequestSummary) -> str | None:
    request = summary.request
    if isinstance(request, GenerateRequest):
        return "chat" if isinstance(request.prompt, ChatPrompt) else "text_completion"
    if isinstance(request, EmbedRequest):
        return "embeddings"
    return "rerank" if isinstance(request, RerankRequest) else None


def _parent(origin: Origin | None) -> Context | None:
    """Of the trace that the client is part of, where it said so."""
    if origin is None or not origin.traceparent:
        return None
    carrier = {"traceparent": origin.traceparent}
    if origin.tracestate:
        carrier["tracestate"] = origin.tracestate
    return _propagator.extract(carrier)


def _attributes(summary: RequestSummary) -> dict[str, str | int]:
    usage = summary.usage
    found: dict[str, str | int] = {
        "gen_ai.request.model": summary.model_id,
        "gen_ai.usage.input_tokens": usage.num_prompt_tokens,
        "gen_ai.usage.output_tokens": usage.num_completion_tokens,
        "appliance.cached_tokens": usage.num_cached_tokens,
        "appliance.caller": summary.caller_id,
        "appliance.outcome": summary.outcome,
    }
    if summary.origin is not None:
        found["appliance.request_id"] = summary.origin.request_id
    if usage.drafts is not None:
        found["appliance.drafted_tokens"] = usage.drafts.num_drafted
        found["appliance.accepted_draft_tokens"] = usage.drafts.num_accepted
    return found


def _stages(summary: RequestSummary) -> Iterator[tuple[str, float, float]]:
    """Name, beginning and end in seconds since the arrival. What came before the slot is
    known by our clock, what came then by the worker's.
    """
    if summary.queue_s is None or summary.stages is None:
        return
    at_s = summary.queue_s
    yield "queue", 0.0, at_s
    for name, duration_ms in (
        ("prefill", summary.stages.prefill_ms),
        ("decode", summary.stages.decode_ms),
    ):
        yield name, at_s, at_s + duration_ms / 1000
        at_s += duration_ms / 1000
