"""Run as a child: the same rows of a model whose sequences share no cells, computed in many
ways with kernels of our own, bit by bit.

Usage: python -m tests.llama.state_row_equality MODEL.gguf KV_TYPE
Prints JSON: whether the runner says that its rows are exact, how many rows were compared
in each way, and how many of them differed from those of one decode alone.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from tests.llama.all_kernels import use_all_kernels

NUM_TOKENS = 150
NUM_SLOTS = 4
SAVED = (70, 100)  # after how many tokens a state is saved

Logits = npt.NDArray[np.float32]


class Rows:
    """Computes the same text over and over in one context."""

    def __init__(self, model: Model, config: ContextConfig) -> None:
        self.config = config
        self.context = Context(model, config)
        chance = random.Random(5)
        most = min(model.num_vocab, 4000)
        self._tokens = [chance.randrange(4, most) for _ in range(NUM_TOKENS)]
        self._others = {
            slot: [chance.randrange(4, most) for _ in range(2 * NUM_TOKENS)]
            for slot in range(1, NUM_SLOTS)
        }
        self._lengths = dict.fromkeys(self._others, 0)
        self._expected = self.logits(0, [NUM_TOKENS])
        self.clear()

    def logits(
        self, slot: int, chunks: Sequence[int], beside: Sequence[int] = (), first: int = 0
    ) -> Logits:
        """Of the text's tokens from `first` on, float32 [tokens, vocabulary]; between two
        decodes, and in them where they have one row, those `beside` have one too.
        """
        found = []
        for size in chunks:
            batch = Batch()
            at = 0
            if size > 1:
                self._step(beside, Batch())
            else:
                self._add(beside[::2], batch)
                at = len(batch)
            for position in range(first, first + size):
                batch.add(self._tokens[position], position, slot, wants_logits=True)
            if size == 1:
                self._add(beside[1::2], batch)
            self.context.decode(batch)
            found += [self.context.logits(at + row) for row in range(size)]
            first += size
        return np.stack(found)

    def _step(self, slots: Sequence[int], batch: Batch) -> None:
        self._add(slots, batch)
        if len(batch):
            self.context.decode(batch)

    def _add(self, slots: Sequence[int], batch: Batch) -> None:
        for slot in slots:
            position = self._lengths[slot]
            batch.add(self._others[slot][position], position, slot, wants_logits=True)
            self._lengths[slot] += 1

    def num_different(self, found: Logits, first: int = 0) -> tuple[int, int]:
        """(rows that differ, rows)."""
        expected = self._expected[first : first + len(found)]
        return int((found != expected).any(axis=1).sum()), len(found)

    def clear(self) -> None:
        for slot in range(NUM_SLOTS):
            self.context.clear(slot)
        self._lengths = dict.fromkeys(self._others, 0)


def compare(model: Model, rows: Rows) -> dict[str, tuple[int, int]]:
    found = {"one by one": rows.num_different(rows.logits(0, [1] * 90))}
    rows.clear()
    found["in chunks"] = rows.num_different(rows.logits(0, [2, 3, 5, 8, 13, 21, 64]))
    rows.clear()
    found["beside others"] = rows.num_different(rows.logits(0, [20, *[1] * 30, 7, 40], (1, 2, 3)))
    rows.clear()
    first, second = SAVED
    rows.logits(0, [first])
    whole = rows.context.save(0, 0)
    rows.logits(0, [second - first], first=first)
    more = rows.context.save(0, first)
    assert whole is not None
    assert more is not None
    rows.clear()
    rows.logits(0, [9], (1, 2))  # what others have lies in between
    rows.context.clear(0)
    assert rows.context.load(3, whole, 0, first)
    behind = rows.logits(3, [1, 4, 1, 20], (1, 2), first=first)
    found["behind a restored one"] = rows.num_different(behind, first)
    rows.context.clear(3)
    assert rows.context.load(3, whole, 0, first)
    assert rows.context.load(3, more, first, second)
    behind = rows.logits(3, [6, 1, 1, 30], (1, 2), first=second)
    found["behind a chain of them"] = rows.num_different(behind, second)
    for more_or_none in (0, 2):  # as after a restart with other settings
        rows.context = Context(model, other_config(rows.config, more_or_none))
        assert rows.context.load(1, whole, 0, first)
        assert rows.context.load(1, more, first, second)
        behind = rows.logits(1, [1, 5, 30], first=second)
        found[f"in a context of {more_or_none} earlier states"] = rows.num_different(behind, second)
        rows.context.close()
    return found


def other_config(config: ContextConfig, rollback_states: int) -> ContextConfig:
    """Of fewer sequences and cells."""
    sizes = replace(config.sizes, slots=2, kv_cells=512, rollback_states=rollback_states)
    return ContextConfig(sizes=sizes)


def main(argv: list[str]) -> None:
    use_all_kernels()
    model = Model(Path(argv[0]), use_extra_bufts=False)
    sizes = ContextSizes(
        kv_cells=1024,
        slots=NUM_SLOTS,
        max_rows=160,
        kv_type=argv[1],
        threads=2,
        flash_attention=True,
        batch_threads=2,
        ubatch_rows=160,
        max_draft_rows=NUM_TOKENS,
        rollback_states=4,
    )
    runner = LlamaRunner(model, ContextConfig(sizes=sizes))
    runner.warm_up()
    found = compare(model, Rows(model, ContextConfig(sizes=sizes)))
    print(json.dumps({"is_exact": runner.capabilities.exact_rows, "different": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
