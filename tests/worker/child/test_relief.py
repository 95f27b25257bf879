"""A real worker that is asked to give memory back: the system has it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import pytest

from appliance.errors import MemoryPressure
from appliance.protocol.health import Heartbeat
from appliance.protocol.relief import NO_RELIEF, Relief
from appliance.protocol.requests import GenerateRequest, TokenPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.worker.config import WorkerConfig
from appliance.worker.memory_use import memory_use
from appliance.worker.supervisor import Supervisor
from tests.worker.running import GREEDY, config, running  # noqa: F401 - a fixture

MIB = 1 << 20
NUM_PROMPTS = 24


def prompt(number: int, num_tokens: int = 500) -> GenerateRequest:
    """Begins like no other number's; their lengths differ, as in life, so that freed
    blocks do not fit new ones.
    """
    tokens = [1 + (97 * at + 31 * number) % 4000 for at in range(num_tokens - 7 * number % 100)]
    return GenerateRequest(
        prompt=TokenPrompt(tokens), sampling=SamplingParams(temperature=0.0), max_tokens=1
    )


async def generate(supervisor: Supervisor, request: GenerateRequest) -> None:
    async for _ in supervisor.generate(request):
        pass


async def heartbeat(
    supervisor: Supervisor, after: Heartbeat | None, is_it: Callable[[Heartbeat], bool]
) -> Heartbeat:
    """The first one later than `after` that `is_it`."""
    while True:
        beat = supervisor.health().heartbeat
        if beat is not None and beat is not after and is_it(beat):
            return beat
        await asyncio.sleep(0.01)


def anonymous_bytes(supervisor: Supervisor) -> int:
    pid = supervisor.health().pid
    assert pid is not None
    use = memory_use(pid)
    assert use is not None
    return use.anonymous_bytes


async def test_dropped_prefixes_go_back_to_the_system(config: WorkerConfig) -> None:  # noqa: F811
    config = msgspec.structs.replace(config, resident_prefix_cells=0, prefix_host_bytes=1 << 30)
    async with running(config) as supervisor:
        for number in range(NUM_PROMPTS):
            await generate(supervisor, prompt(number))
        before = supervisor.health().heartbeat
        held = await heartbeat(supervisor, before, lambda beat: beat.prefix_host_bytes > 20 * MIB)
        num_bytes_before = anonymous_bytes(supervisor)
        supervisor.relieve(Relief(held.prefix_host_bytes // 2))
        half = await heartbeat(
            supervisor, held, lambda beat: beat.prefix_host_bytes < held.prefix_host_bytes
        )
        assert (
            held.prefix_host_bytes // 2 - 2 * MIB
            < half.prefix_host_bytes
            <= held.prefix_host_bytes // 2
        )
        supervisor.relieve(Relief(0))
        none = await heartbeat(
            supervisor, half, lambda beat: beat.prefix_host_bytes < half.prefix_host_bytes
        )
        assert none.prefix_host_bytes == 0
        given_back = num_bytes_before - anonymous_bytes(supervisor)
        assert given_back > 0.9 * held.prefix_host_bytes


async def test_long_prompts_are_refused_until_it_is_over(config: WorkerConfig) -> None:  # noqa: F811
    async with running(config) as supervisor:
        supervisor.relieve(Relief(0, 100, "1.0 MiB left"))
        async with aclosing(supervisor.generate(prompt(1))) as events:
            with pytest.raises(MemoryPressure, match=r"1\.0 MiB left.*at most 100"):
                await anext(events)
        await generate(supervisor, prompt(1, num_tokens=90))
        supervisor.relieve(NO_RELIEF)
        await generate(supervisor, prompt(1))
