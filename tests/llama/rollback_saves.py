"""Run as a child: a sequence whose last tokens were taken back, as it goes on, as it is
saved and loaded, and as it would be had they never been there.

Usage: python -m tests.llama.rollback_saves MODEL.gguf KV_TYPE
Prints JSON: `states`, how many earlier states llama.cpp keeps of a sequence; `gaps`, by
how much logits differ at most from those without rollback, for: going on, going on from a
whole save, and from one of the end only beside an earlier one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.fit.tuning.choices import uses_flash_attention
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes

PROMPT, MORE, NEXT = list(range(100, 140)), [7, 8, 9], [200, 201]
DRAFTED, NUM_WRONG = [11, 12, 13, 14], 3


def context(model: Model, kv_type: str) -> Context:
    return Context(
        model,
        ContextConfig(
            sizes=ContextSizes(
                kv_cells=512,
                slots=3,
                max_rows=64,
                kv_type=kv_type,
                threads=1,
                flash_attention=uses_flash_attention(kv_type),
                ubatch_rows=64,
                max_draft_rows=16,
                rollback_states=len(DRAFTED),
                batch_threads=1,
            )
        ),
    )


def compute(where: Context, slot: int, first: int, tokens: list[int]) -> npt.NDArray[np.float32]:
    """The logits behind the last one."""
    batch = Batch()
    for position, token in enumerate(tokens, first):
        row = batch.add(token, position, slot, wants_logits=position == first + len(tokens) - 1)
    where.decode(batch)
    return where.logits(row)


def main(argv: list[str]) -> None:
    model, kv_type = Model(Path(argv[0]), use_extra_bufts=False), argv[1]
    where = context(model, kv_type)
    report: dict[str, object] = {"states": where.rollback_states}
    if not where.rollback_states:
        print(json.dumps(report))
        return
    kept = len(DRAFTED) - NUM_WRONG
    num_known = len(PROMPT) + len(MORE) + kept

    def expected() -> npt.NDArray[np.float32]:
        compute(where, 0, 0, PROMPT)
        compute(where, 0, len(PROMPT), MORE)
        compute(where, 0, len(PROMPT) + len(MORE), DRAFTED[:kept])
        logits = compute(where, 0, num_known, NEXT)
        where.clear(0)
        return logits

    def rolled_back() -> bytes:
        """In slot 0; what was saved before."""
        compute(where, 0, 0, PROMPT)
        saved = where.save(0, 0)
        compute(where, 0, len(PROMPT), MORE)
        compute(where, 0, len(PROMPT) + len(MORE), DRAFTED)
        where.clear_tail(0, num_known)
        assert saved is not None
        return saved

    right = expected()
    gaps = []
    rolled_back()
    # beside another sequence, so that states move
    batch = Batch()
    for position, token in enumerate(NEXT):
        batch.add(token, position, 1, wants_logits=False)
        row = batch.add(token, num_known + position, 0, wants_logits=position == 1)
    where.decode(batch)
    gaps.append(np.abs(where.logits(row) - right).max())
    where.clear(0)
    where.clear(1)
    rolled_back()
    whole = where.save(0, 0)
    assert whole is not None
    assert where.load(2, whole, 0, num_known)
    gaps.append(np.abs(compute(where, 2, num_known, NEXT) - right).max())
    gaps.append(np.abs(compute(where, 0, num_known, NEXT) - right).max())
    where.clear(0)
    where.clear(2)
    start = rolled_back()
    end = where.save(0, len(PROMPT))
    assert end is not None
    where.clear(0)
    assert where.load(1, start, 0, len(PROMPT))
    assert where.load(1, end, len(PROMPT), num_known)
    gaps.append(np.abs(compute(where, 1, num_known, NEXT) - right).max())
    report["gaps"] = [float(gap) for gap in gaps]
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
