"""The loop's body: schedule, decode, sample, commit. Knows no text, no processes and no llama.cpp."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from appliance.engine.cells import Cells, KeepPolicy
from appliance.engine.cost import StepCost
from appliance.engine.host_prefixes import SavedPrefix
from appliance.engine.runner import Runner, SampleRequest
from appliance.engine.scheduler import Limits, Scheduled, Scheduler
from appliance.engine.sequence import FinishReason, SamplingParams, Sequence, Status
from appliance.errors import ApplianceError, BadRequest, DecodeFailed, PromptTooLong

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineRequest:
    """`max_new_tokens` None means: as far as the context goes."""

    request_id: int
    prompt: Seq[int]
    sampling: SamplingParams
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Sampled:
    """One new token of a request; `finish_reason` says that it is the last.

    `num_cached_tokens` of its prompt were taken over from a known prefix.
    """

    request_id: int
    token: int
    num_new_tokens: int
    num_cached_tokens: int
    finish_reason: FinishReason | None


@dataclass(frozen=True)
class Broken:
    """A request that ended in an error after it had been accepted."""

    request_id: int
    error: ApplianceError


Output = Sampled | Broken


class Engine:
    """Continuous batching over one `Runner`: sequences join and leave the batch at every step. Single-threaded."""

    def __init__(
        self, runner: Runner, limits: Limits, policy: KeepPolicy, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._cost = StepCost()
        self._end_tokens = runner.capabilities.end_tokens
        self._num_vocab = runner.capabilities.num_vocab
        self._cells = Cells(runner, policy, clock)
        self._scheduler = Scheduler(runner.capabilities, limits, self._cost, self._cells)
        self._sequences: dict[int, Sequence] = {}
        self.num_steps = 0

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def num_used_cells(self) -> int:
        return self._cells.num_used

    def take_back(self, saved: SavedPrefix) -> None:
        """A prefix that was saved in an earlier life of this model."""
        self._cells.take_back(saved)

    def next_for_disk(self) -> SavedPrefix | None:
        """A prefix worth a file; the caller writes it and sets its `on_disk`."""
        return self._cells.next_for_disk()

    def submit(self, request: EngineRequest) -> None:
        """Accepts a request. Raises `BadRequest`, `PromptTooLong` or `QueueFull`, and then keeps nothing of it."""
        assert request.request_id not in self._sequences
        longest = self._scheduler.longest_request
        if len(request.prompt) >= longest:
            raise PromptTooLong.of(len(request.prompt), longest - 1)
        self._check_tokens(request)
        seq = Sequence(
            request_id=request.request_id,
            tokens=list(request.prompt),
            num_prompt_tokens=len(request.prompt),
            max_new_tokens=longest if request.max_new_tokens is None else request.max_new_tokens,
            sampling=request.sampling,
        )
        self._scheduler.add(seq)
        self._sequences[seq.request_id] = seq

    def finish(self, request_id: int) -> None:
        """Ends a request before the next step: cancelled, or its text is complete. Unknown ids are ignored."""
        seq = self._sequences.get(request_id)
        if seq is not None:
            self._remove(seq)

    def step(self) -> list[Output]:
        """One decode for all running sequences; returns what it brought, in order of admission."""
        broken = self._open_admitted()
        step = self._scheduler.schedule()
        if not step.batch:
            return broken
        self.num_steps += 1
        started = self._clock()
        try:
            self._runner.decode(step.batch)
            tokens = self._runner.sample(self._sample_requests(step))
        except DecodeFailed as error:
            return broken + self._break_all(step, error)
        elapsed_ms = (self._clock() - started) * 1000
        self._cost.observe(len(step.batch), elapsed_ms)
        self._log_step(step, elapsed_ms)
        return broken + self._commit(step, tokens)

    def _check_tokens(self, request: EngineRequest) -> None:
        if not request.prompt:
            raise BadRequest("The prompt is empty: it has no token to start from.")
        for tokens, param in ((request.prompt, None), (list(request.sampling.logit_bias), "logit_bias")):
            unknown = next((token for token in tokens if not 0 <= token < self._num_vocab), None)
            if unknown is not None:
                raise BadRequest(f"Token id {unknown} is not in the vocabulary of {self._num_vocab}.", param=param)

    def _open_admitted(self) -> list[Output]:
        broken: list[Output] = []
        for seq in self._scheduler.admit():
            assert seq.slot is not None
            try:
                self._runner.open_sampler(seq.slot, seq.sampling, seq.tokens)
            except ApplianceError as error:
                del self._sequences[seq.request_id]
                self._scheduler.remove(seq)
                broken.append(Broken(seq.request_id, error))
        return broken

    def _sample_requests(self, step: Scheduled) -> list[SampleRequest]:
        running = self._scheduler.running
        requests = []
        for request_id, row in step.logit_rows.items():
            slot = running[request_id].slot
            assert slot is not None
            requests.append(SampleRequest(slot, row))
        return requests

    def _commit(self, step: Scheduled, tokens: list[int]) -> list[Output]:
        for request_id, num_rows in step.computed.items():
            self._grow(self._sequences[request_id], num_rows)
        outputs: list[Output] = []
        for request_id, token in zip(step.logit_rows, tokens, strict=True):
            seq = self._sequences[request_id]
            seq.tokens.append(token)
            seq.status = Status.DECODE
            reason = self._finish_reason(seq)
            outputs.append(Sampled(request_id, token, seq.num_new_tokens, seq.num_cached_tokens, reason))
            if reason is not None:
                self._remove(seq)
        return outputs

    def _grow(self, seq: Sequence, num_rows: int) -> None:
        assert seq.slot is not None
        first = seq.num_computed_tokens
        seq.num_computed_tokens += num_rows
        self._cells.grow(seq.slot, seq.tokens[first : seq.num_computed_tokens])

    def _finish_reason(self, seq: Sequence) -> FinishReason | None:
        if seq.tokens[-1] in self._end_tokens and not seq.sampling.ignore_eos:
            return FinishReason.STOP
        if seq.num_new_tokens >= seq.max_new_tokens:
            return FinishReason.LENGTH
        return None

    def _break_all(self, step: Scheduled, error: DecodeFailed) -> list[Output]:
        """Every sequence of a failed batch ends: its cells hold nothing that could be continued."""
        _log.error("decode of %d rows failed: %s", len(step.batch), error)
        broken: list[Output] = []
        for request_id in step.computed:
            self._remove(self._sequences[request_id], keep=False)
            broken.append(Broken(request_id, error))
        return broken

    def _remove(self, seq: Sequence, *, keep: bool = True) -> None:
        del self._sequences[seq.request_id]
        if seq.slot is not None:
            self._runner.close_sampler(seq.slot)
        self._scheduler.remove(seq, keep=keep)

    def _log_step(self, step: Scheduled, elapsed_ms: float) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "step %d: %d rows of %d sequences, %d sampled, %.1f ms, %d waiting",
                self.num_steps,
                len(step.batch),
                step.batch.num_slots,
                len(step.logit_rows),
                elapsed_ms,
                self.num_waiting,
            )
