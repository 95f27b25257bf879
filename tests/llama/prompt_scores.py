"""Run as a child: a prompt's scores beside a running stream, against a float64 softmax
of the logits.

Usage: python -m tests.llama.prompt_scores MODEL.gguf
Prints JSON: tokens scored, the most logits read in one step, the largest difference
from the softmax of the very logits that were read (`error`), the largest from a
straight run of the same prompt alone (`drift`: batches of another shape move last
digits), whether the most likely ones are those of a full sort, and the tokens cached
and streamed meanwhile.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence as Seq
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import Logprobs, ScoreRequest
from appliance.engine.scoring import Prefilled, ScoredToken
from appliance.errors import DecodeFailed
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.llama.sampling.logits import log_softmax
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams

TEXT = "The old house by the sea had stood empty for many years, and nobody knew who owned it. " * 8
NUM_TOP = 5
GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)
CONFIG = ContextConfig(
    sizes=ContextSizes(
        kv_cells=2048,
        slots=3,
        max_rows=64,
        kv_type="f16",
        threads=2,
        max_draft_rows=8,
        batch_threads=2,
        ubatch_rows=64,
    )
)


class ReadRunner(LlamaRunner):
    """Remembers the log-softmax of each row that was scored."""

    def __init__(self, model: Model, config: ContextConfig) -> None:
        super().__init__(model, config)
        self.read: list[npt.NDArray[np.float64]] = []
        self.num_rows: list[int] = []

    def score(self, requests: Seq[ScoreRequest]) -> list[Logprobs | DecodeFailed]:
        self.read += [log_softmax(self._context.logits(request.row)) for request in requests]
        self.num_rows.append(len(requests))
        return super().score(requests)


def straight(model: Model, tokens: Seq[int]) -> list[npt.NDArray[np.float64]]:
    """Row by row, alone."""
    context = Context(model, CONFIG)
    rows = []
    for at, token in enumerate(tokens):
        batch = Batch()
        batch.add(token, at, 0, wants_logits=True)
        context.decode(batch)
        rows.append(log_softmax(context.logits(0)))
    context.close()
    return rows


def main(path: str) -> dict[str, Any]:
    model = Model(Path(path), use_extra_bufts=False)
    runner = ReadRunner(model, CONFIG)
    engine = Engine(runner, Limits(1024, 10_000, 100), KeepPolicy(1000, 600.0))
    prompt = model.tokenize(TEXT, parse_special=False)
    engine.submit(EngineRequest(request_id=1, prompt=prompt, sampling=GREEDY, max_new_tokens=1))
    while engine.has_work:
        engine.step()
    engine.submit(
        EngineRequest(request_id=2, prompt=prompt[:9], sampling=GREEDY, max_new_tokens=200)
    )
    engine.step()
    asked = SamplingParams(temperature=0.0, num_top_logprobs=NUM_TOP)
    engine.submit(
        EngineRequest(
            request_id=3, prompt=prompt, sampling=asked, max_new_tokens=0, scores_prompt=True
        )
    )
    scored: list[ScoredToken] = []
    num_streamed, num_cached = 0, -1
    while num_cached < 0:
        for output in engine.step():
            if isinstance(output, Prefilled):
                scored += output.scored
                num_cached = output.num_cached_tokens if output.finish_reason else -1
            num_streamed += isinstance(output, Sampled)
    reported = [each.logprobs for each in scored[1:]]
    assert [each.token for each in scored] == prompt
    assert scored[0].logprobs is None
    alone = straight(model, prompt[:-1])
    best = [list(np.argsort(-row, kind="stable")[:NUM_TOP]) for row in runner.read]
    return {
        "num_scored": len(reported),
        "most_rows": max(runner.num_rows),
        "num_steps": len(runner.num_rows),
        "error": max(
            abs(one.chosen - row[t])
            for one, row, t in zip(reported, runner.read, prompt[1:], strict=True)
            if one
        ),
        "drift": max(
            abs(one.chosen - row[t])
            for one, row, t in zip(reported, alone, prompt[1:], strict=True)
            if one
        ),
        "top_is_right": best == [[each.token for each in one.top] for one in reported if one],
        "num_cached": num_cached,
        "num_streamed": num_streamed,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
