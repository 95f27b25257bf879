"""What keeping answers to a schema costs of a step:
the mask, applying it and taking the token.

Usage: python -m bench.structured MODEL.gguf [NUM_STREAMS [ROUNDS]]

Runs the same engine with and without grammars, in turn, after one of each that does not
count. Prints the share of a step that goes to the grammars (from their own clocks:
exact), and the ratio of tokens per second with its spread (which the machine's noise is
part of; samplings differ too, for a masked row has few candidates).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Broken
from appliance.engine.requests import EngineRequest
from appliance.llama import sampler
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.llama.sampling.logits import Row
from appliance.llama.sampling.sampler import ConstrainedRows
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import Grammar
from appliance.protocol.sampling import SamplingParams
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from bench.model_file import model_file

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "kind": {"enum": ["friend", "neighbour", "stranger"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": False,
}
# none ends before its tokens do
SCHEMA = json.dumps({"type": "array", "items": PERSON, "minItems": 100_000})
NUM_TOKENS = 200


class TimedConstrainedRows(ConstrainedRows):
    """What the sampler does with a constraint, its masks included, and how many seconds
    that took.
    """

    spent_s = 0.0

    def allowed(self, row: Row) -> Row:
        started_s = time.perf_counter()
        allowed = super().allowed(row)
        TimedConstrainedRows.spent_s += time.perf_counter() - started_s
        return allowed

    def accept(self, token: int) -> None:
        started_s = time.perf_counter()
        super().accept(token)
        TimedConstrainedRows.spent_s += time.perf_counter() - started_s


class Bench:
    def __init__(self, path: Path, num_streams: int) -> None:
        self.model = Model(path, use_extra_bufts=False)
        self.grammars = LazyGrammars(self.model)
        self.num_streams = num_streams

    def run(self, *, keeps_to_schema: bool) -> float:
        """Seconds of one run."""
        threads = os.cpu_count() or 1
        runner = LlamaRunner(
            self.model,
            ContextConfig(
                sizes=ContextSizes(
                    kv_cells=4096,
                    slots=self.num_streams,
                    max_rows=128,
                    kv_type="f16",
                    threads=threads,
                    batch_threads=threads,
                    ubatch_rows=128,
                )
            ),
        )
        engine = Engine(runner, Limits(2048, 10**6, 1000), KeepPolicy(0, 0.0))
        for at in range(self.num_streams):
            grammar = Grammar(GrammarKind.JSON_SCHEMA, SCHEMA, "bench")
            form = self.grammars.compile(grammar) if keeps_to_schema else None
            sampling = SamplingParams(seed=at, ignore_eos=not keeps_to_schema)
            engine.submit(
                EngineRequest(
                    request_id=at,
                    prompt=[100 + at, 101, 102],
                    sampling=sampling,
                    max_new_tokens=NUM_TOKENS,
                    constraint=form,
                )
            )
        started_s = time.perf_counter()
        while engine.has_work:
            assert not any(isinstance(output, Broken) for output in engine.step())
        elapsed_s = time.perf_counter() - started_s
        runner.close()
        return elapsed_s


def main(argv: list[str]) -> None:
    bench = Bench(model_file(argv[0]), int(argv[1]) if len(argv) > 1 else 1)
    num_rounds = int(argv[2]) if len(argv) > 2 else 5
    sampler.ConstrainedRows = TimedConstrainedRows  # type: ignore[misc]
    bench.run(keeps_to_schema=True), bench.run(keeps_to_schema=False)
    shares, ratios = [], []
    for _ in range(num_rounds):
        TimedConstrainedRows.spent_s = 0.0
        with_s = bench.run(keeps_to_schema=True)
        shares.append(TimedConstrainedRows.spent_s / with_s)
        ratios.append(bench.run(keeps_to_schema=False) / with_s)
        microseconds = 1e6 * TimedConstrainedRows.spent_s / (NUM_TOKENS * bench.num_streams)
    print(
        f"{bench.model.num_vocab} tokens, {bench.num_streams} streams: "
        f"{100 * statistics.median(shares):.1f} % of a step ({100 * min(shares):.1f} to "
        f"{100 * max(shares):.1f}), {microseconds:.0f} us a token; tokens/s with grammars / "
        f"without: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
