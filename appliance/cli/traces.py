"""Where spans go: an OpenTelemetry collector, told in batches by a thread.

Knows no span. The packages come with the extra `otel`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from appliance.errors import BadSettings
from appliance.gateway.telemetry.summary import SummaryListener

_log = logging.getLogger(__name__)


@contextmanager
def traces_to(endpoint: str | None) -> Iterator[tuple[SummaryListener, ...]]:
    """Whoever makes spans of requests and sends them there; nobody without an endpoint.
    At the end what is left is sent.

    Raises `BadSettings` where the packages are missing.
    """
    if endpoint is None:
        yield ()
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from appliance.gateway.telemetry.tracing import Tracing
    except ImportError as error:
        raise BadSettings(
            f"--otlp-endpoint needs packages that are not installed ({error.name}). Install them "
            "with: pip install 'appliance[otel]'."
        ) from error
    resource = Resource({"service.name": "appliance", "service.version": version("appliance")})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _log.info("traces go to %s", endpoint)
    try:
        yield (Tracing(provider.get_tracer("appliance")),)
    finally:
        provider.shutdown()
