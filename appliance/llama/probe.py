"""Runs in a child process and may die there: decodes a fixed text on one CPU path and prints what came out.

Knows neither which paths there are nor what to conclude: see `selftest`.

Usage: python -m appliance.llama.probe MODEL.gguf {on|off} THREADS OUT.npy
Writes the log-probabilities, float32 [positions, vocabulary], and prints a JSON object: the best times of a prefill
and of a decode, in milliseconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.errors import ApplianceError
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model

_NUM_PREFILL_ROWS = 64  # from 64 rows on, attention takes another path through ggml
_NUM_PREFILLS = 8  # together long enough for several context switches, which is where broken AMX state shows
_NUM_DECODES = 24


def main(argv: list[str]) -> int:
    path, extra_bufts, threads, out = Path(argv[0]), argv[1] == "on", int(argv[2]), Path(argv[3])
    try:
        model = Model(path, use_extra_bufts=extra_bufts)
        context = Context(model, ContextConfig(1024, 1, _NUM_PREFILL_ROWS, "f16", threads))
    except ApplianceError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a program's own error output
        return 1
    logits, prefill_ms = _prefill(model, context)
    decode_logits, decode_ms = _decode(model, context)
    np.save(out, np.stack([_log_softmax(row) for row in (*logits, *decode_logits)]).astype(np.float32))
    print(json.dumps({"prefill_ms": prefill_ms, "decode_ms": decode_ms}))  # noqa: T201 - the answer to the parent
    return 0


def _tokens(model: Model, count: int) -> list[int]:
    """A fixed walk through the vocabulary: text or not, both paths must agree on it."""
    return [(17 + 7919 * at) % model.num_vocab for at in range(count)]


def _prefill(model: Model, context: Context) -> tuple[list[npt.NDArray[np.float32]], float]:
    tokens = _tokens(model, _NUM_PREFILL_ROWS)
    rows, best_ms = [], float("inf")
    for _ in range(_NUM_PREFILLS):
        batch = Batch()
        for position, token in enumerate(tokens):
            batch.add(token, position, 0, wants_logits=position == len(tokens) - 1)
        started = time.perf_counter()
        context.decode(batch)
        best_ms = min(best_ms, (time.perf_counter() - started) * 1000)
        rows.append(context.logits(len(tokens) - 1))
        context.clear(0)
    return rows, best_ms


def _decode(model: Model, context: Context) -> tuple[list[npt.NDArray[np.float32]], float]:
    rows, best_ms = [], float("inf")
    for position, token in enumerate(_tokens(model, _NUM_DECODES)):
        batch = Batch()
        batch.add(token, position, 0, wants_logits=True)
        started = time.perf_counter()
        context.decode(batch)
        best_ms = min(best_ms, (time.perf_counter() - started) * 1000)
        rows.append(context.logits(0))
    return rows, best_ms


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    normalized: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return normalized


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
