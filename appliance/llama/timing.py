"""Runs in a child process and may die there:
computes and times what it is asked to, on one model.

Knows not what for.

Usage: python -m appliance.llama.timing MODEL FOLDER: a `TimedModel` as JSON, and where files
that are asked for may be written.
Standard input: a `TimingRequest` per line; standard output: its `TimingResult`
(`timing_messages`). Ends with its input.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from appliance.engine.batch import Batch
from appliance.errors import ApplianceError
from appliance.llama.checks.timing_messages import (
    RoundTimes,
    TimedContext,
    TimedModel,
    TimingFailure,
    TimingRequest,
    TimingResult,
    Workload,
)
from appliance.llama.confining import confine_to_model
from appliance.llama.context import Context, ContextConfig
from appliance.llama.kernels.loading import use_kernels
from appliance.llama.model import Model
from appliance.llama.sampling.logits import log_softmax
from appliance.protocol.context_sizes import ContextSizes

_MAX_CONTEXTS = 2  # at once: two are compared
_CHUNK = 64  # cells that are computed, to be copied; also enough rows for attention's quick path
_NUM_CHECKED_STEPS = 4


class DecodeTimer:
    """A context whose decodes are timed.

    Token ids are made up, for no kernel's time depends on them.
    """

    def __init__(self, model: Model, how: TimedContext, work: Workload) -> None:
        self._num_vocab = model.num_vocab
        self._shares_prefixes = model.memory.shares_prefixes
        self._work = work
        rows = max(work.prompt_rows, _CHUNK, work.streams)
        config = ContextConfig(
            sizes=ContextSizes(
                kv_cells=work.num_cells + 2 * _CHUNK,
                slots=work.streams,
                max_rows=rows,
                kv_type=how.kv_type,
                threads=how.threads,
                flash_attention=how.flash_attention,
                batch_threads=how.batch_threads,
                ubatch_rows=min(how.ubatch_rows, rows),
            )
        )
        self._context = Context(model, config)
        self._num_filled = 0
        self._first_position = self._fill()
        self._prompt_ms(rows)  # touches every buffer

    def round(self) -> RoundTimes:
        prompt_ms = self._prompt_ms(self._work.prompt_rows)
        alone_ms = self._steps_ms(1)
        return RoundTimes(self._num_filled, prompt_ms, alone_ms, self._steps_ms(self._work.streams))

    def log_probs(self) -> npt.NDArray[np.float32]:
        """Of what follows a fixed text behind the cells of every round; float32
        [positions, vocabulary].
        """
        self._begin(1)
        first = self._first_position
        rows = [self._decode(batch) for batch in self._prompt(_CHUNK)][-1:]
        for at in range(_NUM_CHECKED_STEPS):
            rows.append(self._decode(self._batch([(0, first + _CHUNK + at)])))
        return np.stack([log_softmax(row) for row in rows]).astype(np.float32)

    def close(self) -> None:
        self._context.close()

    def _decode(self, batch: Batch) -> npt.NDArray[np.float32]:
        self._context.decode(batch)
        return self._context.logits(len(batch) - 1)

    def _prompt_ms(self, num_rows: int) -> float:
        self._begin(1)
        return sum(self._decode_ms(batch) for batch in self._prompt(num_rows))

    def _steps_ms(self, num_streams: int) -> list[float]:
        self._begin(num_streams)
        times_ms = []
        for at in range(self._work.num_steps):
            rows = [(slot, self._first_position + at) for slot in range(num_streams)]
            times_ms.append(self._decode_ms(self._batch(rows)))
        return times_ms

    def _prompt(self, num_rows: int) -> list[Batch]:
        """In as many decodes as the context wants."""
        rows = [(0, self._first_position + at) for at in range(num_rows)]
        most = self._context.max_rows
        return [
            self._batch(rows[at : at + most], only_last=True) for at in range(0, num_rows, most)
        ]

    def _batch(self, rows: list[tuple[int, int]], *, only_last: bool = False) -> Batch:
        """One row per (slot, position)."""
        batch = Batch()
        for at, (slot, position) in enumerate(rows):
            token = (17 + 7919 * (position + slot)) % self._num_vocab
            batch.add(token, position, slot, wants_logits=not only_last or at == len(rows) - 1)
        return batch

    def _decode_ms(self, batch: Batch) -> float:
        started_s = time.perf_counter()
        self._context.decode(batch)
        self._context.synchronize()
        return (time.perf_counter() - started_s) * 1000

    def _fill(self) -> int:
        """Puts the cells into sequences of their own, one share for each stream;
        returns the position that follows.

        A few are computed, and loaded again and again: what is in a cell costs nothing,
        that it is there does. All copies have the same positions, which attention does
        not mind either.
        """
        share = self._work.depth // self._work.streams
        chunk = min(_CHUNK, share)
        if chunk == 0 or not self._shares_prefixes:
            return 0  # recurrent states and sliding windows have a size of their own
        self._context.decode(self._batch([(0, at) for at in range(chunk)], only_last=True))
        cells = self._context.save(0, 0)
        assert cells is not None, "there was no bound"
        self._context.clear(0)
        for stream in range(self._work.streams):
            for _ in range(share // chunk):
                self._context.load(self._kept_id(stream), cells, 0, chunk)
                self._num_filled += chunk
        return chunk

    def _begin(self, num_streams: int) -> None:
        """Empties all streams, and gives one of them all kept cells, or each of several
        its share.
        """
        for slot in range(self._work.streams):
            self._context.clear(slot)
        if self._first_position == 0:
            return
        for stream in range(self._work.streams):
            slot = 0 if num_streams == 1 else stream
            self._context.copy(self._kept_id(stream), slot, self._first_position)

    def _kept_id(self, stream: int) -> int:
        return self._work.streams + 1 + stream  # behind the context's scratch id


class DecodeTimers:
    """The contexts that were asked for last."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._kept: dict[tuple[TimedContext, Workload], DecodeTimer] = {}

    def time(self, request: TimingRequest) -> RoundTimes:
        timer = self._timer(request.context, request.workload)
        if request.log_probs_file is not None:
            np.save(request.log_probs_file, timer.log_probs())
        return timer.round()

    def _timer(self, context: TimedContext, work: Workload) -> DecodeTimer:
        key = (context, work)
        timer = self._kept.pop(key, None)
        if timer is None:
            if len(self._kept) == _MAX_CONTEXTS:
                self._kept.pop(next(iter(self._kept))).close()
            timer = DecodeTimer(self._model, context, work)
        self._kept[key] = timer  # the latest last
        return timer


def main(argv: list[str]) -> int:
    timed = msgspec.json.decode(argv[0], type=TimedModel)
    if timed.confine != "off":
        confine_to_model(Path(timed.path), timed.kernels, writable=[Path(argv[1])])
    use_kernels(timed.kernels)
    try:
        model = Model(
            Path(timed.path), use_extra_bufts=timed.use_extra_bufts, use_mmap=timed.use_mmap
        )
    except ApplianceError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a program's own error output
        return 1
    timers = DecodeTimers(model)
    for line in sys.stdin:
        request = msgspec.json.decode(line, type=TimingRequest)
        result: TimingResult
        try:
            result = timers.time(request)
        except ApplianceError as error:
            result = TimingFailure(error.message)
        print(msgspec.json.encode(result).decode(), flush=True)  # noqa: T201 - the answer to the parent
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
