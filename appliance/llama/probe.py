"""Runs in a child process and may die there: decodes fixed tokens on one CPU path and
writes what came out.

Knows neither which paths there are nor what to conclude: see
`checks.correctness`. Times nothing: see `timing`.

Usage: python -m appliance.llama.probe MODEL.gguf {on|off} THREADS OUT.npy
Writes the log-probabilities, float32 [positions, vocabulary].
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.errors import ApplianceError
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model
from appliance.llama.sampling.logits import log_softmax
from appliance.protocol.context_sizes import ContextSizes

_NUM_PREFILL_ROWS = 64  # from 64 rows on, attention takes another path through ggml
# together long enough for several context switches, which is where broken AMX state
# shows
_NUM_PREFILLS = 8
_NUM_DECODES = 24


def main(argv: list[str]) -> int:
    path, extra_bufts, threads, out = Path(argv[0]), argv[1] == "on", int(argv[2]), Path(argv[3])
    try:
        model = Model(path, use_extra_bufts=extra_bufts)
        context = Context(
            model,
            ContextConfig(
                sizes=ContextSizes(
                    kv_cells=1024,
                    slots=1,
                    max_rows=_NUM_PREFILL_ROWS,
                    kv_type="f16",
                    threads=threads,
                    batch_threads=threads,
                    ubatch_rows=_NUM_PREFILL_ROWS,
                )
            ),
        )
    except ApplianceError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a program's own error output
        return 1
    logits = [*_prefill(model, context), *_decode(model, context)]
    np.save(out, np.stack([log_softmax(row) for row in logits]).astype(np.float32))
    return 0


def _tokens(model: Model, count: int) -> list[int]:
    """A fixed walk through the vocabulary: text or not, both paths must agree on it."""
    return [(17 + 7919 * at) % model.num_vocab for at in range(count)]


def _prefill(model: Model, context: Context) -> Iterator[npt.NDArray[np.float32]]:
    tokens = _tokens(model, _NUM_PREFILL_ROWS)
    for _ in range(_NUM_PREFILLS):
        batch = Batch()
        for position, token in enumerate(tokens):
            batch.add(token, position, 0, wants_logits=position == len(tokens) - 1)
        context.decode(batch)
        yield context.logits(len(tokens) - 1)
        context.clear(0)


def _decode(model: Model, context: Context) -> Iterator[npt.NDArray[np.float32]]:
    for position, token in enumerate(_tokens(model, _NUM_DECODES)):
        batch = Batch()
        batch.add(token, position, 0, wants_logits=True)
        context.decode(batch)
        yield context.logits(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
