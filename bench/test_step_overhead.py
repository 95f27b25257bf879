"""How much of a worker's step is not llama.cpp's: scheduling, batches, detokenizing,
messages, the socket.

The worker is the real one, in a process of its own, on a random model of 0.35B
parameters; this process reads and decodes its frames. Everything outside `llama_decode`
and choosing the tokens counts as ours: filling the batch, native detokenizing, waiting
for Python's lock and for a core too.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.events import Delta, Event, Finished
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.protocol.sampling import SamplingParams
from appliance.worker.config import WorkerConfig
from bench.worker_driver import Step, TimedWorker, now_s

pytestmark = pytest.mark.timeout(1800)  # a machine that is not idle takes many times as long

MAX_SHARE = 0.02
NUM_PROMPT_WORDS = 32
NUM_NEW_TOKENS = 48
NUM_LONG_PROMPT_WORDS = 1000
ROUNDS = 5
# else the defaults that a client gets: top-k, top-p, min-p, temperature
SAMPLING = SamplingParams(ignore_eos=True)

_words = random.Random(0)


@dataclass(frozen=True)
class Window:
    """When a round's steps of interest ran,
    and from how many rows to how many they had.
    """

    started_s: float
    ended_s: float
    min_rows: int
    max_rows: int

    def holds(self, step: Step) -> bool:
        in_time = (
            self.started_s <= step.started_s and step.started_s + step.elapsed_s <= self.ended_s
        )
        return in_time and self.min_rows <= step.num_rows <= self.max_rows


@pytest.fixture
def config(random_model: Path) -> WorkerConfig:
    return WorkerConfig(
        model_path=str(random_model),
        sizes=ContextSizes(
            slots=8,
            kv_cells=8192,
            kv_type="f16",
            threads=len(os.sched_getaffinity(0)),
            max_rows=512,
            ubatch_rows=128,
            batch_threads=len(os.sched_getaffinity(0)),
        ),
        ctx=2048,
        max_waiting_tokens=65536,
        max_stall_ms=200,
        resident_prefix_cells=2048,
        prefix_host_bytes=64 << 20,
        prefix_disk_bytes=0,
        prefix_ttl_s=3600.0,
        use_extra_bufts=False,
        log_level="warning",
    )


@pytest.fixture
def worker(config: WorkerConfig, tmp_path: Path) -> Iterator[TimedWorker]:
    worker = TimedWorker(config, tmp_path)
    yield worker
    worker.kill()


@pytest.mark.parametrize("num_streams", [1, 4, 8])
def test_decode(num_streams: int, worker: TimedWorker, benchmark: BenchmarkFixture) -> None:
    def run() -> Window:
        started_s = now_s()
        running = {
            worker.submit(request(NUM_PROMPT_WORDS, NUM_NEW_TOKENS)) for _ in range(num_streams)
        }
        wait_for(worker.events(), running, Finished)
        return Window(started_s, now_s(), num_streams, num_streams)

    measure(benchmark, worker, run)


def test_prefill_of_one_prompt(worker: TimedWorker, benchmark: BenchmarkFixture) -> None:
    def run() -> Window:
        started_s = now_s()
        wait_for(worker.events(), {worker.submit(request(NUM_LONG_PROMPT_WORDS, 2))}, Finished)
        return Window(started_s, now_s(), 2, 1 << 20)

    measure(benchmark, worker, run)


def test_prefill_while_four_streams_decode(
    worker: TimedWorker, benchmark: BenchmarkFixture
) -> None:
    def run() -> Window:
        streams = {worker.submit(request(NUM_PROMPT_WORDS, None)) for _ in range(4)}
        events = worker.events()
        wait_for(events, set(streams), Delta)
        started_s = now_s()
        wait_for(events, {worker.submit(request(NUM_LONG_PROMPT_WORDS, 2))}, Finished)
        ended_s = now_s()
        for request_id in streams:
            worker.cancel(request_id)
        return Window(started_s, ended_s, len(streams) + 1, 1 << 20)

    measure(benchmark, worker, run)


def request(num_words: int, max_tokens: int | None) -> GenerateRequest:
    """A new text of as many tokens as words (every word of three letters is one): no
    round finds another's prefix.
    """
    words = ("".join(_words.choices(string.ascii_lowercase, k=3)) for _ in range(num_words))
    return GenerateRequest(
        prompt=TextPrompt(" " + " ".join(words)), sampling=SAMPLING, max_tokens=max_tokens
    )


def wait_for(events: Iterator[Event], request_ids: set[int], kind: type[Event]) -> None:
    """Reads until each of the requests has had an event of this kind."""
    while request_ids:
        event = next(events)
        if isinstance(event, kind):
            request_ids.discard(event.request_id)


def measure(benchmark: BenchmarkFixture, worker: TimedWorker, run: Callable[[], Window]) -> None:
    """Runs the rounds, adds what they showed to the benchmark's report, and holds it to
    the promise.
    """
    windows: list[Window] = []
    benchmark.pedantic(  # type: ignore[no-untyped-call] # pytest-benchmark leaves this one method untyped
        lambda: windows.append(run()), rounds=ROUNDS, warmup_rounds=1
    )
    steps = worker.stop()
    rounds = [[step for step in steps if window.holds(step)] for window in windows[1:]]
    assert all(rounds), "a round without steps measures nothing"
    report = describe(rounds)
    benchmark.extra_info.update(report)
    print("\n" + "  ".join(f"{name}={value}" for name, value in report.items()))
    assert report["median_share_percent"] < 100 * MAX_SHARE


def describe(rounds: list[list[Step]]) -> dict[str, float]:
    """A round's share is its steps' time that is ours by their whole time; times are
    medians over all steps.
    """
    shares = [
        100 * sum(step.ours_s for step in steps) / sum(step.elapsed_s for step in steps)
        for steps in rounds
    ]
    every = list(itertools.chain.from_iterable(rounds))
    return {
        "median_share_percent": round(statistics.median(shares), 3),
        "lowest_share_percent": round(min(shares), 3),
        "highest_share_percent": round(max(shares), 3),
        "ours_us": round(1e6 * statistics.median(step.ours_s for step in every), 1),
        "ours_cpu_us": round(1e6 * statistics.median(step.ours_cpu_s for step in every), 1),
        "step_ms": round(1e3 * statistics.median(step.elapsed_s for step in every), 2),
        "rows": statistics.median(step.num_rows for step in every),
        "steps": len(every),
    }
