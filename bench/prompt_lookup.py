"""Prompt lookup on against off, in one process, by turns: tokens per second of the engine on a real model.

Run: python -m bench.prompt_lookup MODEL.gguf TEXT.txt [NUM_STREAMS [NUM_ROUNDS]]
Workloads: `free` goes on with a text (seeded, temperature 0.8), `copy` is forced to write a passage again that its
prompt holds (by a logit bias nothing forces: the same answer is asked for a second time, greedily). Each round runs off
and on in a varying order with fresh caches. Prints the median of the rounds' ratios, and the gains by the controller.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from appliance.engine.cells import KeepPolicy
from appliance.engine.cost import StepCost
from appliance.engine.drafting import ControlledDrafting
from appliance.engine.engine import Engine, EngineRequest, Sampled
from appliance.engine.prompt_lookup import PromptLookup
from appliance.engine.scheduler import Limits
from appliance.engine.sequence import SamplingParams
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner

NUM_TOKENS = 200
MAX_DRAFT_ROWS = 32


def run(
    model: Model, prompts: list[list[int]], sampling: SamplingParams, *, drafts: bool, learned: dict[str, list[float]]
) -> tuple[float, list[list[int]], ControlledDrafting | None]:
    """(seconds of decoding, answers, drafting)."""
    rows = MAX_DRAFT_ROWS if drafts else 0
    runner = LlamaRunner(model, ContextConfig(8192, len(prompts), 256, "f16", 2, ubatch_rows=128, max_draft_rows=rows))
    cost = StepCost(1.0)
    cost.restore(learned)
    drafting = ControlledDrafting(PromptLookup(), None, cost, time.perf_counter) if drafts else None
    engine = Engine(runner, Limits(2048, 10**6, 1000), KeepPolicy(0, 0.0), cost=cost, drafting=drafting)
    for i, prompt in enumerate(prompts):
        engine.submit(EngineRequest(i, prompt, sampling, NUM_TOKENS))
    answers: list[list[int]] = [[] for _ in prompts]
    started = None
    while engine.has_work:
        for output in engine.step():
            assert isinstance(output, Sampled)
            answers[output.request_id].append(output.token)
        if started is None and all(answers):
            started = time.perf_counter()
    assert started is not None
    elapsed_s = time.perf_counter() - started
    runner.close()
    return elapsed_s, answers, drafting


def curve(model: Model) -> dict[str, list[float]]:
    runner = LlamaRunner(model, ContextConfig(8192, 1, 256, "f16", 2, ubatch_rows=128))
    cost = StepCost(1.0)
    Engine(runner, Limits(2048, 10**6, 1000), KeepPolicy(0, 0.0), cost=cost).learn_curve(4.0)
    runner.close()
    return cost.state()


def main(argv: list[str]) -> None:
    model = Model(Path(argv[0]), use_extra_bufts=False)
    tokens = model.tokenize(Path(argv[1]).read_text()[:60_000], parse_special=False)
    num_streams = int(argv[2]) if len(argv) > 2 else 1
    num_rounds = int(argv[3]) if len(argv) > 3 else 5
    learned = curve(model)
    free = [tokens[i * 400 : i * 400 + 150] for i in range(num_streams)]
    greedy = SamplingParams(temperature=0.0, ignore_eos=True)
    _, known, _ = run(model, free, greedy, drafts=False, learned=learned)
    copy = [prompt + answer + prompt for prompt, answer in zip(free, known, strict=True)]
    workloads = {
        "free": (free, SamplingParams(temperature=0.8, seed=7, ignore_eos=True)),
        "greedy": (free, greedy),
        "copy": (copy, greedy),
    }
    for name, (prompts, sampling) in workloads.items():
        ratios = []
        for number in range(num_rounds):
            order = (False, True) if number % 2 else (True, False)
            taken = {drafts: run(model, prompts, sampling, drafts=drafts, learned=learned) for drafts in order}
            ratios.append(taken[False][0] / taken[True][0])
            same = sum(a == b for a, b in zip(taken[False][1], taken[True][1], strict=True))
            drafting = taken[True][2]
        assert drafting is not None
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        off_rate = num_streams * NUM_TOKENS / taken[False][0]
        median = statistics.median(ratios)
        print(f"{name:8} {median:.3f} ({spread}) off {off_rate:.0f} tok/s, same {same}, {drafting.total}")


if __name__ == "__main__":
    main(sys.argv[1:])
