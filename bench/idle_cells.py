"""What kept prefixes cost: one stream's decoding beside as many idle cells as the
engine would keep, and beside none.

Usage: python -m bench.idle_cells MODEL.gguf [KV_TYPE] [ROUNDS]

Prints the bound that the step-time model derives here for 3 %, then per round the ratio
of the two speeds.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from appliance.engine.batch import Batch
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.cost import StepCost
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from bench.model_file import model_file

NUM_CELLS = 8192
MAX_IDLE_CELLS = 4096
NUM_STEPS = 48
SLOWDOWN = 0.03


class Bench:
    """One stream in slot 0, idle cells in slot 1."""

    def __init__(self, path: Path, kv_type: str) -> None:
        self.runner = LlamaRunner(
            Model(path, use_extra_bufts=False),
            ContextConfig(
                sizes=ContextSizes(
                    kv_cells=NUM_CELLS,
                    slots=2,
                    max_rows=512,
                    kv_type=kv_type,
                    threads=2,
                    flash_attention=kv_type != "f16",
                    ubatch_rows=128,
                    batch_threads=2,
                )
            ),
        )
        self.runner.warm_up()
        cost = StepCost(self.runner.capabilities.attention)
        Engine(self.runner, Limits(4096, 1, 250), KeepPolicy(0, 0.0), cost=cost).learn_curve(
            limit_s=10.0
        )
        self.num_idle_cells = cost.idle_cells_within(SLOWDOWN, MAX_IDLE_CELLS)

    def fill(self, num_cells: int) -> None:
        for first in range(0, num_cells, 512):
            self._step(1, first, min(first + 512, num_cells))

    def decode_ms(self) -> float:
        """Median time of a step of one row."""
        self._step(0, 0, 16)
        times_ms = [self._step(0, position, position + 1) for position in range(16, 16 + NUM_STEPS)]
        self.runner.remove_cells(0)
        return statistics.median(times_ms)

    def _step(self, slot: int, first: int, last: int) -> float:
        batch = Batch()
        for position in range(first, last):
            token = (17 + 7919 * position) % self.runner.capabilities.num_vocab
            batch.add(token, position, slot, position == last - 1)
        started_s = time.perf_counter()
        self.runner.decode(batch)
        self.runner.synchronize()
        return (time.perf_counter() - started_s) * 1000


def main(argv: list[str]) -> None:
    kv_type = argv[1] if len(argv) > 1 else "f16"
    bench = Bench(model_file(argv[0]), kv_type)
    print(f"{kv_type}: {bench.num_idle_cells} idle cells may be kept")
    ratios = []
    for at in range(int(argv[2]) if len(argv) > 2 else 5):
        empty_ms = bench.decode_ms()
        bench.fill(bench.num_idle_cells)
        full_ms = bench.decode_ms()
        bench.runner.remove_cells(1)
        ratios.append(empty_ms / full_ms)
        print(
            f"round {at + 1}: empty {empty_ms:.2f} ms, beside idle cells {full_ms:.2f} ms, "
            f"ratio {ratios[-1]:.3f}"
        )
    print(f"median ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main(sys.argv[1:])
