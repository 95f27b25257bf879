"""Requests to Ollama's endpoints around a scripted model, and its lines read back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec

from appliance.api.app import create_app
from appliance.api.ollama.times import Stopwatch
from appliance.protocol.events import Event, Finished, Times
from tests.api.scripted_client import ANSWER, ScriptedClient, gateway_around, http_to

HELLO = {"role": "user", "content": "Hello"}
NOW = "2023-11-14T22:13:20.000000Z"
TIMES = Times(prompt_ms=1.5, completion_ms=2.25)
END = {  # of ANSWER by `stopwatch`, with TIMES
    "done": True,
    "done_reason": "stop",
    "total_duration": 9_000_000,
    "load_duration": 100,
    "prompt_eval_count": 5,
    "prompt_eval_duration": 1_500_000,
    "eval_count": 5,
    "eval_duration": 2_250_000,
}


def timed(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """The same, with `TIMES` at the end."""
    *before, last = events
    assert isinstance(last, Finished)
    usage = msgspec.structs.replace(last.usage, times=TIMES)
    return (*before, msgspec.structs.replace(last, usage=usage))


def stopwatch() -> Stopwatch:
    """Accepted after 100 ns, and 9 ms have passed."""
    watch = Stopwatch(clock_ns=lambda: 1000, unix_s=lambda: 1_700_000_000.0)
    watch.accepted_ns = 1100
    watch.clock_ns = lambda: 9_001_000
    return watch


def lines(response: httpx.Response) -> list[Any]:
    assert response.headers["content-type"] == "application/x-ndjson"
    *whole, rest = response.text.split("\n")
    assert rest == "", "every line is whole"
    return [json.loads(line) for line in whole]


async def post(client: ScriptedClient, path: str, **body: Any) -> httpx.Response:
    async with http_to(create_app(gateway_around(client))) as http:
        return await http.post(f"/api/{path}", json=body)


async def asked(path: str, **body: Any) -> ScriptedClient:
    """The model, after one request that was answered."""
    client = ScriptedClient(*ANSWER)
    response = await post(client, path, **body)
    assert response.status_code == 200, response.text
    return client
