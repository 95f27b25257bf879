"""Spans of a real request to a real worker, as an exporter gets them."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from appliance.errors import PromptTooLong
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from appliance.gateway.telemetry.context import RequestContext
from appliance.gateway.telemetry.origin import Origin
from appliance.gateway.telemetry.tracing import Tracing
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.worker.config import WorkerConfig
from tests.worker.running import ENDLESS, config, running

__all__ = ["config"]  # a fixture
TRACE, CLIENTS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CLIENTS_SPAN}-01"


async def test_a_request_is_a_span_with_its_stages_in_the_clients_trace(
    config: WorkerConfig,
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with running(config) as supervisor:
        model = ServedModel(id="novels", client=supervisor, created=1)
        gateway = Gateway(Router([model]), Admission())
        gateway.metrics.requests.add_listener(Tracing(provider.get_tracer("test")))
        RequestContext(origin=Origin(request_id="req_1", traceparent=PARENT)).begin()
        request = GenerateRequest(prompt=TextPrompt("The sea"), sampling=ENDLESS, max_tokens=8)
        async with gateway.generate(Caller("alice"), model, request) as events:
            _ = [event async for event in events]
        too_long = GenerateRequest(prompt=TextPrompt("sea " * 2000))
        async with gateway.generate(Caller("alice"), model, too_long) as events:
            with pytest.raises(PromptTooLong):
                await anext(events)
        hour = (await gateway.metrics.stats.record()).last_hour.models["novels"]
    *stages, whole, refused = exporter.get_finished_spans()
    assert [span.name for span in stages] == ["queue", "prefill", "decode"]
    _check_stages(stages, whole)
    assert whole.name == "text_completion novels"
    assert whole.parent is not None
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (
        TRACE,
        CLIENTS_SPAN,
    )
    told = dict(whole.attributes or {})
    assert told["gen_ai.usage.output_tokens"] == 8
    assert (told["appliance.request_id"], told["appliance.caller"]) == ("req_1", "alice")
    assert told["appliance.outcome"] == "length"
    assert whole.status.status_code is StatusCode.UNSET
    assert (refused.attributes or {})["error.type"] == "context_length_exceeded"
    assert refused.status.status_code is StatusCode.ERROR
    assert hour.outcomes == {"length": 1, "context_length_exceeded": 1}
    assert (hour.queue_s.count, hour.total_s.count) == (1, 1)
    assert hour.queue_s.p50 is not None
    assert hour.first_token_s.p50 is not None
    assert hour.queue_s.p50 < hour.first_token_s.p50


def _check_stages(stages: list[ReadableSpan], whole: ReadableSpan) -> None:
    """One after the other, within the whole."""
    assert {span.parent.span_id for span in stages if span.parent} == {whole.context.span_id}
    times = [time for span in stages for time in (span.start_time, span.end_time)]
    known = [time for time in times if time is not None]
    assert len(known) == 6
    assert known == sorted(known)
    assert whole.start_time == known[0]
    assert known[1] == known[2]
    assert known[3] == known[4]
