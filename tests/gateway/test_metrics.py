"""What is counted of requests, how models are described,
and that the documentation names every metric.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.errors import QueueFull, ShuttingDown
from appliance.gateway.accounts.caller import ANONYMOUS
from appliance.gateway.telemetry.metrics import Metrics
from appliance.protocol.events import Delta, Finished, FinishReason, Started, Usage
from tests.api.scripted_client import ANSWER, ScriptedClient, Step, gateway_around
from tests.gateway.paced_client import REQUEST, PacedClient, gateway_of
from tests.gateway.samples import values

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "metrics.md"


async def run(client: ScriptedClient) -> Metrics:
    """One request from its arrival to its end."""
    gateway = gateway_around(client)
    model = gateway.router.resolve(None)
    async with gateway.generate(ANONYMOUS, model, REQUEST) as events:
        async for _ in events:
            pass
    return gateway.metrics


async def test_an_answer_counts_its_tokens_and_its_times() -> None:
    metrics = await run(ScriptedClient(*ANSWER))  # deltas of 2, 1 and 2 tokens
    assert values(metrics, "appliance_requests_total") == {"novels,stop": 1}
    assert values(metrics, "appliance_prompt_tokens_total") == {"novels": 5}
    assert values(metrics, "appliance_cached_prompt_tokens_total") == {"novels": 2}
    assert values(metrics, "appliance_completion_tokens_total") == {"novels": 5}
    assert values(metrics, "appliance_time_to_first_token_seconds_count") == {"novels": 1}
    assert values(metrics, "appliance_time_between_tokens_seconds_count") == {"novels": 1 + 2}


async def test_times_are_those_of_the_events() -> None:
    first, second = asyncio.Event(), asyncio.Event()
    steps: list[Step] = [
        Started(1, 1),
        first,
        Delta(request_id=1, text="a", num_tokens=1),
        second,
        Delta(request_id=1, text="b", num_tokens=1),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=1, num_cached_tokens=0, num_completion_tokens=2),
        ),
    ]
    client = ScriptedClient(*steps)
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(run(client))
    started_s = loop.time()
    for event, wait_s in ((first, 0.06), (second, 0.03)):
        await client.reached_wait.wait()
        client.reached_wait.clear()
        loop.call_later(wait_s, event.set)
    metrics = await running
    elapsed_s = loop.time() - started_s
    to_first = values(metrics, "appliance_time_to_first_token_seconds_sum")["novels"]
    between = values(metrics, "appliance_time_between_tokens_seconds_sum")["novels"]
    assert to_first >= 0.06
    assert between >= 0.03
    assert to_first + between <= elapsed_s
    assert values(metrics, "appliance_requests_total") == {"novels,length": 1}


async def test_refusals_failures_and_clients_who_left_are_counted_by_what_they_were() -> None:
    gateway = gateway_around(ScriptedClient(Started(1, 5), QueueFull("full")))
    model = gateway.router.resolve(None)
    async with gateway.generate(ANONYMOUS, model, REQUEST) as events:
        await anext(events)
        with pytest.raises(QueueFull):
            await anext(events)
    async with gateway.generate(ANONYMOUS, model, REQUEST) as events:
        await anext(events)
    gateway.begin_drain()
    with pytest.raises(ShuttingDown):
        async with gateway.generate(ANONYMOUS, model, REQUEST):
            pass
    assert values(gateway.metrics, "appliance_requests_total") == {
        "novels,queue_full": 1,
        "novels,cancelled": 1,
        "novels,shutting_down": 1,
    }
    assert values(gateway.metrics, "appliance_completion_tokens_total") == {}


def test_models_are_described_as_they_are_when_asked() -> None:
    gateway, _ = gateway_of(PacedClient())
    names = (
        "requests_running",
        "requests_waiting",
        "kv_cells_used",
        "host_prefix_bytes",
        "worker_restarts_total",
    )
    found = {name: values(gateway.metrics, f"appliance_{name}") for name in names}
    assert found == {
        "requests_running": {"novels": 1},
        "requests_waiting": {"novels": 0},
        "kv_cells_used": {"novels": 40},
        "host_prefix_bytes": {"novels": 0},
        "worker_restarts_total": {"novels": 2},
    }


def test_the_guide_names_every_metric_with_its_type_and_meaning() -> None:
    gateway, _ = gateway_of(PacedClient())
    described = {
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            family.documentation,
        )
        for family in text_string_to_metric_families(gateway.metrics.render().decode())
        if not family.name.endswith("_created")
    }
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \|[^|]*\| ([^|]+) \|$", GUIDE.read_text(), re.MULTILINE
    )
    assert {(name, kind, meaning) for name, kind, meaning in rows} == described
