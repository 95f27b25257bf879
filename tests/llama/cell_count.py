"""Run as a child with LLAMA_KV_CACHE_DEBUG=1: our count of used cells against
llama.cpp's own, before every decode.

Usage: python -m tests.llama.cell_count MODEL.gguf NUM_STEPS
Prints JSON: the steps compared, how many differed, how often a sequence was preempted,
and the most cells in use, kept prefixes and shared ones included.
"""

from __future__ import annotations

import json
import logging
import random
import re
import sys
from pathlib import Path

from appliance.engine.batch import Batch
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.requests import EngineRequest
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams

CTX = 120


class UsedLines(logging.Handler):
    """Collects `used =` from llama.cpp's log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.counts: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"used = +(\d+)", record.getMessage()):
            self.counts.append(int(found[1]))


class CountedRunner(LlamaRunner):
    """Compares at every decode what the engine counts with what llama.cpp says was in
    use when it began.
    """

    def __init__(self, model: Model, config: ContextConfig, lines: UsedLines) -> None:
        super().__init__(model, config)
        self._lines = lines
        self.engine: Engine | None = None
        self.counts: list[tuple[int, int]] = []

    def decode(self, batch: Batch) -> None:
        assert self.engine is not None
        ours = self.engine.num_used_cells
        self._lines.counts.clear()
        super().decode(batch)
        self.counts.append((ours, self._lines.counts[0]))


def random_request(chance: random.Random, request_id: int) -> EngineRequest:
    """Prompts begin alike in a few ways,
    so that prefixes are shared at many lengths.
    """
    family = random.Random(chance.randrange(4))
    prompt = [family.randrange(4, 4000) for _ in range(chance.randrange(1, 70))]
    prompt += [chance.randrange(4, 4000) for _ in range(chance.randrange(12))]
    return EngineRequest(
        request_id=request_id,
        prompt=prompt or [5],
        sampling=SamplingParams(seed=request_id),
        max_new_tokens=chance.randrange(1, 90),
    )


def main(argv: list[str]) -> None:
    lines = UsedLines()
    log = logging.getLogger("appliance.llama.library")
    log.addHandler(lines)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    model = Model(Path(argv[0]), use_extra_bufts=False)
    runner = CountedRunner(
        model,
        ContextConfig(
            sizes=ContextSizes(
                kv_cells=256,
                slots=6,
                max_rows=64,
                kv_type="f16",
                threads=2,
                batch_threads=2,
                ubatch_rows=64,
            )
        ),
        lines,
    )
    engine = Engine(runner, Limits(CTX, 1_000_000, 200), KeepPolicy(60, 1000.0, 4 << 20))
    runner.engine = engine
    chance = random.Random(1)
    num_requests = num_preempted = 0
    while engine.num_steps < int(argv[1]):
        if chance.random() < 0.2 or not engine.has_work:
            engine.submit(random_request(chance, num_requests))
            num_requests += 1
        if chance.random() < 0.03:
            engine.finish(chance.randrange(num_requests))
        before = engine.num_preempted
        engine.step()
        num_preempted += max(engine.num_preempted - before, 0)
    num_wrong = sum(ours != theirs for ours, theirs in runner.counts)
    report = {"steps": len(runner.counts), "wrong": num_wrong, "preempted": num_preempted}
    print(json.dumps({**report, "most_used": max(ours for ours, _ in runner.counts)}))


if __name__ == "__main__":
    main(sys.argv[1:])
