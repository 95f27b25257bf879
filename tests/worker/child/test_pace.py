"""A real worker that may use a part of the machine's power: it says the same, later."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from appliance.protocol.events import Delta
from appliance.protocol.health import Heartbeat
from appliance.protocol.relief import Pace
from appliance.protocol.requests import GenerateRequest, TokenPrompt
from appliance.worker.config import WorkerConfig
from appliance.worker.supervisor import Supervisor
from tests.worker.running import ENDLESS, config, running  # noqa: F401 - a fixture

REQUEST = GenerateRequest(prompt=TokenPrompt(list(range(5, 45))), sampling=ENDLESS, max_tokens=24)


async def text_of(supervisor: Supervisor) -> str:
    events = [event async for event in supervisor.generate(REQUEST)]
    return "".join(event.text for event in events if isinstance(event, Delta))


async def next_beat(supervisor: Supervisor) -> Heartbeat:
    """One that was sent after this was asked for."""
    before = supervisor.health().heartbeat
    while (beat := supervisor.health().heartbeat) is None or beat is before:
        await asyncio.sleep(0.01)
    return beat


@pytest.mark.alone  # seconds of work are compared
async def test_a_held_back_worker_says_the_same(config: WorkerConfig) -> None:  # noqa: F811
    config = msgspec.structs.replace(config, repeatable=True)
    async with running(config) as supervisor:
        text = await text_of(supervisor)
        full = await next_beat(supervisor)
        supervisor.relieve(Pace(0.25))
        assert await text_of(supervisor) == text
        held = await next_beat(supervisor)
        supervisor.relieve(Pace(1.0))
        assert await text_of(supervisor) == text

    assert len(text) > 0
    assert held.done_ms > full.done_ms > 0
    assert held.busy_s > full.busy_s > 0
