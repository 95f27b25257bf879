"""Runs in a child process and may die there: times what it is asked to, on one CPU path. Knows not what for.

Usage: python -m appliance.llama.timing MODEL.gguf {on|off} THREADS
Standard input: a line `prefill ROWS` or `decode STREAMS` per measurement. Standard output: for each, the times in
milliseconds as a JSON array: of one prompt of so many rows, or of several steps with so many sequences.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from appliance.engine.batch import Batch
from appliance.errors import ApplianceError
from appliance.llama.context import Context, ContextConfig
from appliance.llama.model import Model

_MAX_ROWS = 256
_MAX_STREAMS = 4
_NUM_STEPS = 6


class Stopwatch:
    """A context whose decodes are timed; token ids are made up, for no kernel's time depends on them."""

    def __init__(self, model: Model, threads: int) -> None:
        self._num_vocab = model.num_vocab
        self._context = Context(model, ContextConfig(1024, _MAX_STREAMS, _MAX_ROWS, "f16", threads))

    def prefill_ms(self, num_rows: int) -> list[float]:
        batch = Batch()
        for position in range(num_rows):
            batch.add(self._token(position), position, 0, wants_logits=position == num_rows - 1)
        return [self._decode_ms(batch)]

    def decode_ms(self, num_streams: int) -> list[float]:
        times_ms = []
        for position in range(_NUM_STEPS):
            batch = Batch()
            for slot in range(num_streams):
                batch.add(self._token(position + slot), position, slot, wants_logits=True)
            times_ms.append(self._decode_ms(batch))
        return times_ms

    def clear(self) -> None:
        for slot in range(_MAX_STREAMS):
            self._context.clear(slot)

    def _token(self, at: int) -> int:
        return (17 + 7919 * at) % self._num_vocab

    def _decode_ms(self, batch: Batch) -> float:
        started_s = time.perf_counter()
        self._context.decode(batch)
        return (time.perf_counter() - started_s) * 1000


def main(argv: list[str]) -> int:
    path, extra_bufts, threads = Path(argv[0]), argv[1] == "on", int(argv[2])
    try:
        model = Model(path, use_extra_bufts=extra_bufts)
        watch = Stopwatch(model, threads)
        watch.prefill_ms(_MAX_ROWS)  # reads the weights, and touches every buffer
        watch.clear()
        for line in sys.stdin:
            kind, count = line.split()
            times_ms = watch.prefill_ms(int(count)) if kind == "prefill" else watch.decode_ms(int(count))
            watch.clear()
            print(json.dumps(times_ms), flush=True)  # noqa: T201 - the answer to the parent
    except ApplianceError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a program's own error output
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
