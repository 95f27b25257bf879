"""A server's log as programs read it, and its numbers as people do, of real requests to a
real worker.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

from tests.serve.server import Server, environment, free_port

ASKED = {"prompt": "It was a dark night", "max_tokens": 8, "temperature": 0, "ignore_eos": True}


@pytest.mark.parametrize("flags", [(), ("--log-prompts",)])
def test_every_line_is_an_object_and_each_request_has_one(
    home: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "appliance", "serve", "novels-6m", "--no-tune"]
    command += ["--port", str(port), "--log-format", "json", "--log-level", "debug", *flags]
    server = Server(command, port, environment(home), tmp_path)
    try:
        server.await_line('"ready: ')
        with httpx.Client(base_url=server.url, timeout=120) as http:
            answer = http.post("/v1/completions", json=ASKED, headers={"x-request-id": "mine"})
            stats = http.get("/stats").json()
        server.await_line("POST /v1/completions 200")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    finally:
        server.end()
    assert answer.headers["x-request-id"] == "mine"
    lines = [json.loads(line) for line in server.lines]
    [line] = [each for each in lines if each.get("request_id") == "mine"]
    assert (line["logger"], line["status"], line["caller"]) == (
        "appliance.access",
        200,
        "anonymous",
    )
    assert (line["model"], line["outcome"], line["completion_tokens"]) == ("novels-6m", "length", 8)
    assert line["queue_ms"] <= line["first_token_ms"] <= line["duration_ms"]
    assert ("dark night" in line.get("prompt", "")) is bool(flags)
    assert any(each["message"].startswith("prompts are logged") for each in lines) is bool(flags)
    assert ("dark night" in server.log) is bool(flags)
    assert any(each.get("process") == "worker" for each in lines)
    hour = stats["last_hour"]["models"]["novels-6m"]
    assert (hour["requests"], hour["between_tokens_s"]["count"]) == (1, 7)
    assert hour["queue_s"]["p99"] * 1000 == pytest.approx(line["queue_ms"], abs=0.06)
