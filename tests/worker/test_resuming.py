"""A request whose reader leaves frees its slot at once, and goes on where it was when he
comes back: on a real worker and the real embedded model.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from appliance.errors import StreamGone, WorkerLost
from appliance.protocol.events import Event, Finished
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import GenerateRequest, Grammar
from appliance.protocol.sampling import SamplingParams
from appliance.worker.config import WorkerConfig
from tests.conftest import Embedded
from tests.worker.running import config, next_heartbeat, resized, running, text, worker_pid

__all__ = ["config"]  # a fixture

SEEDED = SamplingParams(temperature=0.9, seed=7, ignore_eos=True, repeat_penalty=1.2)


def resumable(resume_id: str = "a", **fields: Any) -> GenerateRequest:
    asked = text("The old house by the sea", sampling=SEEDED, max_tokens=40)
    return msgspec.structs.replace(asked, resume_id=resume_id, **fields)


async def read(events: AsyncGenerator[Event, None], num_events: int | None = None) -> list[Event]:
    """So many of them, then leaves."""
    got = []
    async with aclosing(events):
        async for event in events:
            got.append(event)
            if len(got) == num_events:
                break
    return got


def told(events: list[Event]) -> list[Any]:
    """What a reader is told, whatever the request's number and what was cached."""
    return [
        (event.reason, event.usage.num_prompt_tokens, event.usage.num_completion_tokens)
        if isinstance(event, Finished)
        else msgspec.structs.replace(event, request_id=0)
        for event in events
    ]


REQUESTS: list[dict[str, Any]] = [
    {},
    {"grammar": Grammar(GrammarKind.REGEX, "[a-z ]{400}", "regex"), "max_tokens": 60},
    {"uses_cache": False},
    {"stop": ["never written"]},
    {"max_tokens": 1},  # it has ended before its reader is back
]


async def test_it_goes_on_as_if_nothing_had_happened(
    config: WorkerConfig, embedded: Embedded
) -> None:
    # With quantized weights, where cells lie in the cache may choose another token.
    exact = msgspec.structs.replace(config, model_path=str(embedded.files["F32"]))
    async with running(exact) as supervisor:
        for fields in REQUESTS:
            request = resumable(**fields)
            whole = await read(supervisor.generate(request))
            parts = await read(supervisor.generate(request), 1)
            while not isinstance(parts[-1], Finished):
                parts += await read(supervisor.resume("a"), 9)
            with pytest.raises(StreamGone):
                await read(supervisor.resume("a"))
            assert told(parts) == told(whole)


async def test_its_slot_is_somebody_elses_meanwhile(
    config: WorkerConfig, embedded: Embedded
) -> None:
    exact = msgspec.structs.replace(config, model_path=str(embedded.files["F32"]))
    async with running(resized(exact, slots=1)) as supervisor:
        whole = await read(supervisor.generate(resumable()))
        parts = await read(supervisor.generate(resumable()), 5)
        for _ in range(2):  # the next beat may have been on its way already
            await next_heartbeat(supervisor)
        beat = supervisor.health().heartbeat
        assert beat is not None
        assert (beat.num_running, beat.num_waiting) == (0, 0)
        other = await read(supervisor.generate(text("It", max_tokens=5)))
        assert isinstance(other[-1], Finished)
        parts += await read(supervisor.resume("a"))
        assert told(parts) == told(whole)

        await read(supervisor.generate(resumable()), 5)
        supervisor.forget("a")
        supervisor.forget("a")
        with pytest.raises(StreamGone):
            await read(supervisor.resume("a"))
        # by the same id, and in the only slot
        assert isinstance((await read(supervisor.generate(resumable())))[-1], Finished)


async def test_a_lost_worker_ends_it(config: WorkerConfig) -> None:
    async with running(config) as supervisor:
        not_started = supervisor.generate(resumable())
        await not_started.aclose()
        with pytest.raises(StreamGone):
            await read(supervisor.resume("a"))

        await read(supervisor.generate(resumable()), 5)
        os.kill(worker_pid(supervisor), signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await read(supervisor.resume("a"))
        with pytest.raises(StreamGone):
            await read(supervisor.resume("a"))
