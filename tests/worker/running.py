"""Real workers on the real embedded model, and requests to them, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.events import Delta, Finished, Started
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.worker.config import WorkerConfig
from appliance.worker.patience import Patience
from appliance.worker.supervisor import Supervisor
from tests.conftest import Embedded
from tests.worker_configs import plain_config

GREEDY = SamplingParams(temperature=0.0)
ENDLESS = SamplingParams(temperature=0.0, ignore_eos=True)
PATIENCE = Patience(stop_s=20.0)


@pytest.fixture
def config(embedded: Embedded) -> WorkerConfig:
    return config_of(embedded.files["Q4_K_M"])


def config_of(model: Path) -> WorkerConfig:
    return plain_config(
        model_path=str(model),
        sizes=ContextSizes(
            slots=4,
            kv_cells=2048,
            kv_type="f16",
            threads=2,
            max_rows=256,
            batch_threads=2,
            ubatch_rows=256,
        ),
        ctx=512,
        resident_prefix_cells=512,
        repeatable=False,  # greedy requests take over whole prefixes here, and are drafted for
    )


@asynccontextmanager
async def running(config: WorkerConfig, patience: Patience = PATIENCE) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(config, patience)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


@dataclass
class WholeAnswer:
    text: str
    num_tokens: int
    finished: Finished


async def ask(supervisor: Supervisor, request: GenerateRequest) -> WholeAnswer:
    events = [event async for event in supervisor.generate(request)]
    started, *deltas, finished = events
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert started.num_prompt_tokens == finished.usage.num_prompt_tokens
    return WholeAnswer("".join(d.text for d in deltas), sum(d.num_tokens for d in deltas), finished)  # type: ignore[union-attr] # all are Deltas


def text(
    prompt: str,
    sampling: SamplingParams = ENDLESS,
    max_tokens: int = 16,
    stop: tuple[str, ...] = (),
) -> GenerateRequest:
    return GenerateRequest(
        prompt=TextPrompt(prompt), sampling=sampling, max_tokens=max_tokens, stop=list(stop)
    )


def worker_pid(supervisor: Supervisor) -> int:
    pid = supervisor.health().pid
    assert pid is not None
    return pid


async def next_heartbeat(supervisor: Supervisor) -> None:
    """Waits until the worker's heart has beaten once more from now on."""
    seen = supervisor.health().heartbeat
    while supervisor.health().heartbeat is seen:
        await asyncio.sleep(0)


def resized(config: WorkerConfig, **sizes: Any) -> WorkerConfig:
    """The same with other sizes of its context, by field."""
    return msgspec.structs.replace(config, sizes=replace(config.sizes, **sizes))
