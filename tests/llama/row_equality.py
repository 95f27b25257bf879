"""Run as a child: the same rows computed in many ways with kernels of our own, bit by bit.

Usage: python -m tests.llama.row_equality MODEL.gguf KV_TYPE
Prints JSON: whether the runner says that its rows are exact, how many rows were compared
in each way, and how many of them differed from those of one decode alone.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from tests.llama.all_kernels import use_all_kernels

NUM_TOKENS = 130
NUM_SLOTS = 6
KEPT = NUM_SLOTS + 1  # an id behind the context's scratch one

Logits = npt.NDArray[np.float32]


class Rows:
    """Computes the same text over and over in one context."""

    def __init__(self, model: Model, config: ContextConfig) -> None:
        self.context = Context(model, config)
        self._rng = random.Random(5)
        self._num_vocab = model.num_vocab
        self._tokens = [self._token() for _ in range(NUM_TOKENS)]
        self._lengths = dict.fromkeys(range(NUM_SLOTS), 0)
        self._expected = self.logits(0, [NUM_TOKENS])
        self.clear()

    def logits(
        self, slot: int, chunks: Sequence[int], beside: Sequence[int] = (), first: int = 0
    ) -> Logits:
        """Of the text's tokens from `first` on, float32 [tokens, vocabulary], each
        decode with a row of another text for each slot in `beside`.
        """
        found = []
        for size in chunks:
            batch = Batch()
            others = [(other, self._token(), self._lengths[other]) for other in beside]
            for other, token, position in others[::2]:
                batch.add(token, position, other, wants_logits=False)
            at = len(batch)
            for position in range(first, first + size):
                batch.add(self._tokens[position], position, slot, wants_logits=True)
            for other, token, position in others[1::2]:
                batch.add(token, position, other, wants_logits=True)
            for other in beside:
                self._lengths[other] += 1
            self.context.decode(batch)
            found += [self.context.logits(at + row) for row in range(size)]
            first += size
        return np.stack(found)

    def num_different(self, found: Logits, first: int = 0) -> tuple[int, int]:
        """(rows that differ, rows)."""
        expected = self._expected[first : first + len(found)]
        return int((found != expected).any(axis=1).sum()), len(found)

    def clear(self, *sequence_ids: int) -> None:
        for sequence_id in sequence_ids or (*self._lengths, KEPT):
            self.context.clear(sequence_id)
            self._lengths[sequence_id] = 0

    def _token(self) -> int:
        return self._rng.randrange(4, min(self._num_vocab, 4000))


def compare(rows: Rows) -> dict[str, tuple[int, int]]:
    found = {"one by one": rows.num_different(rows.logits(0, [1] * 70))}
    rows.clear()
    found["in chunks"] = rows.num_different(rows.logits(0, [2, 3, 5, 8, 13, 21, 64]))
    rows.clear()
    found["beside others"] = rows.num_different(rows.logits(1, [20, *[1] * 30, 7, 8], (2, 3, 4)))
    rows.clear(1, 3)  # what is left lies between holes
    found["in holes"] = rows.num_different(rows.logits(0, [30, *[1] * 20, 60], (2, 4)))
    rows.context.copy(0, 5, 77)
    shared = rows.logits(5, [1, 4, *[1] * 10, 30], (2, 4), first=77)
    found["behind a shared prefix"] = rows.num_different(shared, 77)
    saved = rows.context.save(0, 0)
    assert saved is not None
    rows.clear()
    rows.logits(2, [9])
    assert rows.context.load(KEPT, saved, 0, 77)
    rows.context.copy(KEPT, 3, 77)
    found["behind a restored one"] = rows.num_different(rows.logits(3, [6, 1, 20], first=77), 77)
    rows.context.clear_tail(3, 90)
    found["behind one cut off"] = rows.num_different(rows.logits(3, [1, 2, 9], first=90), 90)
    return found


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
    )
    runner = LlamaRunner(model, ContextConfig(sizes=sizes))
    runner.warm_up()
    found = compare(Rows(model, ContextConfig(sizes=sizes)))
    print(json.dumps({"is_exact": runner.capabilities.exact_rows, "different": found}))


if __name__ == "__main__":
    main(sys.argv[1:])
