"""Twenty requests at once for three models where two have room: each is answered, and
the budget holds throughout.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from appliance.fit.machine.device import measure_device
from appliance.fit.plan.footprint import shared_bytes
from appliance.fit.tuning.choices import Tuning
from appliance.launch.files import PreparedModel
from appliance.launch.machine import Machine
from appliance.launch.planning import launch_of
from appliance.launch.planning import plan as plan_launch
from appliance.llama.checks import CpuPaths, PathResult
from appliance.store.gguf_header import read_header
from appliance.worker.memory_use import exact_memory
from tests.conftest import Embedded
from tests.launch.specs import spec_of
from tests.serve.server import Server, StartServer

NAMES = ("novels", "verse", "plays")
NUM_REQUESTS = 20
NUM_TOKENS = 24
CTX, SLOTS, BODY_BYTES = 1024, 2, 1 << 20
FLAGS = (
    "--ctx",
    str(CTX),
    "--kv-cells",
    str(CTX * SLOTS),
    "--slots",
    str(SLOTS),
    "--kv-type",
    "f16",
)
FLAGS += ("--prefix-host-bytes", "0", "--max-body-bytes", str(BODY_BYTES))


class MemoryWatch:
    """Looks at the server and its workers all the while: how many there are, and what
    they take, and should.
    """

    def __init__(self, server: Server) -> None:
        self.most_bytes = 0
        self.most_predicted_bytes = 0
        self.most_workers = 0
        self._url = f"{server.url}/v1/models"
        self._server = psutil.Process(server.process.pid)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(0.02):
            workers = self._server.children()
            found = [exact_memory(process.pid) for process in (self._server, *workers)]
            self.most_bytes = max(
                self.most_bytes, sum(memory.pss_bytes for memory in found if memory is not None)
            )
            self.most_workers = max(self.most_workers, len(workers))
            models = httpx.get(self._url, timeout=10).json()["data"]
            predicted_bytes = sum(model["predicted_bytes"] or 0 for model in models)
            self.most_predicted_bytes = max(self.most_predicted_bytes, predicted_bytes)


@pytest.fixture
def models(tmp_path: Path, embedded: Embedded) -> list[str]:
    for name in NAMES:
        (tmp_path / f"{name}.gguf").symlink_to(embedded.files["Q8_0"])
    return [str(tmp_path / f"{name}.gguf") for name in NAMES]


def budget_for_two(path: str) -> int:
    """Room for two and a half models of this size, and the headroom."""
    spec = spec_of(Path(path).parent, ctx=CTX, kv_cells=CTX * SLOTS, slots=SLOTS, kv_type="f16")
    model = PreparedModel("storm", (read_header(Path(path)),))
    works = PathResult(True, "works")
    machine = Machine(measure_device(), CpuPaths(works, works), "none")
    launch = launch_of(replace(spec, max_body_bytes=BODY_BYTES), model, machine)
    need = plan_launch(launch, Tuning()).need
    usable_bytes = shared_bytes(BODY_BYTES) + need.own_bytes * 5 // 2
    return max(usable_bytes + (32 << 20), usable_bytes * 10 // 9)


async def ask(api: openai.AsyncOpenAI, number: int) -> int:
    name = NAMES[number % len(NAMES)]
    answer = await api.completions.create(
        model=name,
        prompt=f"Chapter {number}. The",
        max_tokens=NUM_TOKENS,
        extra_body={"ignore_eos": True},
    )
    assert answer.model == name
    assert answer.usage is not None
    return answer.usage.completion_tokens


async def test_the_load_storm(start_server: StartServer, models: list[str]) -> None:
    budget_bytes = budget_for_two(models[0])
    server = start_server(*models, *FLAGS, "--ram", str(budget_bytes))
    with MemoryWatch(server) as watch:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60
        ) as api:
            answers = await asyncio.gather(*(ask(api, number) for number in range(NUM_REQUESTS)))
    assert answers == [NUM_TOKENS] * NUM_REQUESTS
    assert watch.most_workers == 2
    assert watch.most_bytes <= budget_bytes
    assert 0 < watch.most_predicted_bytes + shared_bytes(BODY_BYTES) <= budget_bytes
    happened: dict[str, list[str]] = defaultdict(list)
    for name, what in re.findall(r"(\w+) is (being loaded|unloaded):", server.log):
        happened[name].append(what)
    assert happened.keys() == set(NAMES)
    for name, events in happened.items():
        alternating = ["being loaded" if at % 2 == 0 else "unloaded" for at in range(len(events))]
        assert events == alternating, f"{name} was loaded while it was there"
    assert not any(model["is_reduced"] for model in server.processes()["models"])
