"""Run as a child: what moving a sequence's cells does to it, and to the others.

Usage: python -m tests.llama.moved_cells MODEL.gguf KV_TYPE on|off own|ggml
Prints JSON: why the model's cells stay, if they do; else how many bytes of another
sequence's cells changed, how far the logits behind a text are from those behind a copy
of it that was moved as a whole (a turn by the same angle for all, so no difference but
rounding), from those behind one moved in a single step of the engine's, and from those
of another text; and whether what was moved could be saved before its keys were turned.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.llama.context import ContextConfig
from appliance.llama.model import Model
from appliance.llama.runner import LlamaRunner
from appliance.protocol.context_sizes import ContextSizes
from tests.llama.all_kernels import use_all_kernels

NUM_TOKENS = 300  # more than are copied together
SHIFT = 37

Logits = npt.NDArray[np.float32]


class Texts:
    """Slot 0 has a text, and slot 1 another."""

    def __init__(self, runner: LlamaRunner) -> None:
        self.runner = runner
        self.context = runner._context
        chance = random.Random(3)
        most = min(runner.capabilities.num_vocab, 4000)
        self.text = [chance.randrange(4, most) for _ in range(NUM_TOKENS + 1)]
        self.other = [chance.randrange(4, most) for _ in range(NUM_TOKENS)]
        for slot, tokens in enumerate((self.text[:-1], self.other)):
            self._decode(slot, tokens, 0)

    def next_logits(self, slot: int, first: int) -> Logits:
        """Those of the text's last token, behind what the slot has."""
        self._decode(slot, self.text[-1:], first)
        logits = self.context.logits(0)
        self.runner.remove_tail(slot, first)
        return logits

    def _decode(self, slot: int, tokens: list[int], first: int) -> None:
        batch = Batch()
        for position, token in enumerate(tokens, first):
            batch.add(token, position, slot, wants_logits=position == first + len(tokens) - 1)
        self.context.decode(batch)


def measure(runner: LlamaRunner) -> dict[str, object]:
    texts = Texts(runner)
    before = texts.context.save(1, 0)
    expected = texts.next_logits(0, NUM_TOKENS)
    assert runner.copy_moved(0, 2, 0, NUM_TOKENS, SHIFT)
    is_saved_early = runner.save_cells(2, 0, sys.maxsize) is not None
    moved = texts.next_logits(2, NUM_TOKENS + SHIFT)
    after = texts.context.save(1, 0)
    assert before is not None
    assert after is not None
    return {
        "changed_bytes": sum(one != other for one, other in zip(before, after, strict=True)),
        "moved": gap(expected, moved),
        "same_place": gap(expected, same_place(texts)),
        "other_text": gap(expected, texts.next_logits(1, NUM_TOKENS)),
        "is_saved_early": is_saved_early,
        "is_saved_then": runner.save_cells(2, 0, sys.maxsize) is not None,
        "back": gap(expected, back(texts)),
    }


def same_place(texts: Texts) -> Logits:
    """Behind a copy that was not moved."""
    assert texts.runner.copy_moved(0, 3, 0, NUM_TOKENS, 0)
    return texts.next_logits(3, NUM_TOKENS)


def back(texts: Texts) -> Logits:
    """Behind the moved copy, saved, and moved back while it is read."""
    data = texts.runner.save_cells(2, 0, sys.maxsize)
    texts.runner.remove_cells(3)
    assert data is not None
    first, last = SHIFT, SHIFT + NUM_TOKENS
    assert texts.runner.load_cells(3, data, first, last, -SHIFT)
    return texts.next_logits(3, NUM_TOKENS)


def gap(one: Logits, other: Logits) -> float:
    """The largest difference of log-probabilities."""
    return float(np.abs(_log_probs(one) - _log_probs(other)).max())


def _log_probs(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def main(argv: list[str]) -> None:
    if argv[3] == "own":
        use_all_kernels()
    model = Model(Path(argv[0]), use_extra_bufts=False)
    sizes = ContextSizes(
        kv_cells=2048,
        slots=4,
        max_rows=NUM_TOKENS,
        kv_type=argv[1],
        threads=2,
        flash_attention=argv[2] == "on",
        batch_threads=2,
        ubatch_rows=NUM_TOKENS,
        max_draft_rows=1,
    )
    runner = LlamaRunner(model, ContextConfig(sizes=sizes))
    why = runner.capabilities.why_cells_stay
    print(json.dumps({"why": why} if why else measure(runner)))


if __name__ == "__main__":
    main(sys.argv[1:])
