"""Spans on their way to a collector, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from appliance.cli.traces import traces_to
from appliance.gateway.telemetry.origin import Origin
from appliance.gateway.telemetry.summary import RequestSummary
from tests.gateway.telemetry_requests import REQUEST


class Collector(HTTPServer):
    """Takes what is posted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted: list[tuple[str, str, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:  # http.server's name
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.posted.append((self.path, self.headers["content-type"], body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_is_left_is_sent_at_the_end(collector: Collector) -> None:
    summary = RequestSummary(
        caller_id="alice",
        model_id="novels",
        request=REQUEST,
        origin=Origin(request_id="req_1"),
        outcome="stop",
        arrived_ns=1_700_000_000_000_000_000,
        ended_s=1.0,
        total_s=0.5,
    )
    with traces_to(f"http://127.0.0.1:{collector.server_port}") as listeners:
        for listener in listeners:
            listener.request_ended(summary)
    [(path, content_type, body)] = collector.posted
    assert (path, content_type) == ("/v1/traces", "application/x-protobuf")
    assert b"req_1" in body
    assert b"text_completion novels" in body
    assert b"Once" not in body  # the prompt


def test_without_an_endpoint_nobody_makes_spans() -> None:
    with traces_to(None) as listeners:
        assert listeners == ()
