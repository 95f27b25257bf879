"""What `--cache-reuse` costs and gains: prompts whose beginning, or some of whose lines,
hold another time of day than the ones before.

Usage: python -m bench.cache_reuse MODEL.gguf TEXT [KV_TYPE] [NUM_PROMPTS]

Of prompts of about 1,000 tokens, each with a continuation of 32 that is read too: how
far the predictions with moved cells are from those computed whole (KL divergence in
nats, mean over all tokens read), beside how far those of the prompt with the old times
are; and the time to the first token through the engine, with and without. Prints a
table in Markdown, a line for each kind of prompt and least number of equal tokens.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.engine.cache.equal_runs import equal_runs
from appliance.engine.cache.host_prefixes import num_common
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.cost import StepCost
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.llama.checks import find_kernels
from appliance.llama.context import ContextConfig
from appliance.llama.kernels.loading import all_of, use_kernels
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.sampling import SamplingParams
from bench.model_file import model_file

NUM_CELLS = 8192
NUM_TOKENS = 1000  # of a prompt, about
NUM_READ = 32  # of its continuation
LINE_TOKENS = 120
LEAST = (64, 256)
OLD, NEW = "It is 09:41 on Monday.\n", "It is 5:30 in the afternoon of Tuesday.\n"

LogProbs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Text:
    """A prompt's tokens, by the time that it holds, and what follows them."""

    with_time: Callable[[str], list[int]]
    continuation: list[int]


class Bench:
    """Slot 0 has the prompt that was there before, slot 1 the one that is compared."""

    def __init__(self, path: Path, kv_type: str) -> None:
        if not isinstance(library := find_kernels(), str):
            use_kernels(all_of(library))
        self.model = Model(path, use_extra_bufts=False)
        sizes = ContextSizes(
            kv_cells=NUM_CELLS,
            slots=2,
            max_rows=512,
            kv_type=kv_type,
            threads=2,
            flash_attention=True,
            ubatch_rows=128,
            batch_threads=2,
            max_draft_rows=NUM_READ,
        )
        self.runner = LlamaRunner(self.model, ContextConfig(sizes=sizes))
        self.runner.warm_up()
        if why := self.runner.capabilities.why_cells_stay:
            raise SystemExit(f"Nothing to measure: {why}.")
        self.cost = StepCost(self.runner.capabilities.attention)
        self.engine().learn_curve(limit_s=10.0)

    def engine(self) -> Engine:
        policy = KeepPolicy(NUM_CELLS, 3600.0)
        return Engine(self.runner, Limits(4096, 8192, 120), policy, cost=self.cost)

    def first_token_ms(self, text: Text, min_moved: int) -> tuple[float, int]:
        """How long the prompt with the new time takes, and how many tokens were moved."""
        engine = self.engine()
        self._answer(engine, text.with_time(OLD), 0)
        started_s = time.perf_counter()
        first = self._answer(engine, text.with_time(NEW), min_moved)
        elapsed_ms = (time.perf_counter() - started_s) * 1000
        engine.cells.make_room(NUM_CELLS)  # nobody's prefix stays for the next one
        return elapsed_ms, first.num_moved_tokens

    def _answer(self, engine: Engine, prompt: list[int], min_moved: int) -> Sampled:
        engine.submit(
            EngineRequest(
                request_id=0,
                prompt=prompt,
                sampling=SamplingParams(ignore_eos=True),
                max_new_tokens=1,
                min_moved_tokens=min_moved,
            )
        )
        while True:
            for output in engine.step():
                assert isinstance(output, Sampled)
                return output

    def whole(self, text: Text, told: str) -> LogProbs:
        """Predictions of the continuation, everything computed."""
        found = self._read(1, text.with_time(told) + text.continuation, 0)
        self.runner.remove_cells(1)
        return found

    def moved(self, text: Text, min_tokens: int) -> LogProbs:
        """The same with moved cells, as the engine takes them over."""
        old, prompt = text.with_time(OLD), text.with_time(NEW)
        self._decode(0, old, 0, 0)
        at = num_common(old, prompt, len(prompt))
        self.runner.copy_cells(0, 1, at)
        for run in equal_runs(old, at, prompt, at, min_tokens):
            self._decode(1, prompt[at : run.target], at, 0)
            assert self.runner.copy_moved(0, 1, run.first, run.last, run.target - run.first)
            at = run.target + run.num_tokens
        found = self._read(1, prompt[at:] + text.continuation, at)
        self.runner.remove_cells(0)
        self.runner.remove_cells(1)
        return found

    def _read(self, slot: int, tokens: list[int], first: int) -> LogProbs:
        self._decode(slot, tokens[:-NUM_READ], first, 0)
        at = len(tokens) - NUM_READ
        self._decode(slot, tokens[at:], first + at, NUM_READ)
        rows = self.runner._context.logits_in_place(range(NUM_READ))
        logits = np.stack([row.astype(np.float64) for row in rows])
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def _decode(self, slot: int, tokens: list[int], first: int, num_logits: int) -> None:
        """In steps of 512 rows; logits of the last ones."""
        for start in range(0, len(tokens), 512):
            batch = Batch()
            for at, token in enumerate(tokens[start : start + 512], start):
                batch.add(token, first + at, slot, at >= len(tokens) - num_logits)
            self.runner.decode(batch)


def texts(bench: Bench, path: Path, num_prompts: int, *, every_line: bool) -> list[Text]:
    """Pieces of the file behind a line with the time, or cut into lines that each begin
    with it.
    """
    tokens = bench.model.tokenize(path.read_text()[: num_prompts * 12_000], parse_special=False)
    size = NUM_TOKENS + NUM_READ
    pieces = [tokens[at : at + size] for at in range(0, num_prompts * size, size)]
    line = LINE_TOKENS if every_line else NUM_TOKENS

    def with_time(piece: list[int], told: str) -> list[int]:
        begin = [] if bench.model.bos is None else [bench.model.bos]
        time_tokens = bench.model.tokenize(told, parse_special=False)
        for start in range(0, NUM_TOKENS, line):
            begin += time_tokens + piece[start : min(start + line, NUM_TOKENS)]
        return begin

    return [
        Text(lambda told, piece=piece: with_time(piece, told), piece[NUM_TOKENS:])
        for piece in pieces
        if len(piece) == size
    ]


def divergence(one: LogProbs, other: LogProbs) -> float:
    return float((np.exp(one) * (one - other)).sum(axis=1).mean())


def main(argv: list[str]) -> None:
    bench = Bench(model_file(argv[0]), argv[2] if len(argv) > 2 else "f16")
    num_prompts = int(argv[3]) if len(argv) > 3 else 8
    print("| changed | least | moved | KL | KL of the old times | first token, ms | whole, ms |")
    print("|---|---|---|---|---|---|---|")
    for every_line in (False, True):
        made = texts(bench, Path(argv[1]), num_prompts, every_line=every_line)
        whole = [bench.whole(text, NEW) for text in made]
        stale = [divergence(w, bench.whole(t, OLD)) for w, t in zip(whole, made, strict=True)]
        for least in LEAST:
            lost = [divergence(w, bench.moved(t, least)) for w, t in zip(whole, made, strict=True)]
            times, whole_times_ms = [], []
            for text in made:  # by turns: the machine may be slower for a while
                times.append(bench.first_token_ms(text, least))
                whole_times_ms.append(bench.first_token_ms(text, 0)[0])
            print(
                f"| {'each line' if every_line else 'first line'} | {least} "
                f"| {statistics.mean(num for _, num in times):.0f} | {statistics.mean(lost):.4f} "
                f"| {statistics.mean(stale):.4f} | {statistics.median(ms for ms, _ in times):.0f} "
                f"| {statistics.median(whole_times_ms):.0f} |"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
