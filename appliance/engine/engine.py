"""The loop's body: schedule, decode, sample, commit.

Knows no text, no processes and no llama.cpp.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from itertools import islice

from appliance.engine.cache.cells import Cells
from appliance.engine.cache.host_prefixes import SavedPrefix
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.cost import LONG_RUN, LONG_RUN_EVERY, StepCost, Work
from appliance.engine.curve import learn_curve
from appliance.engine.drafting.drafter import Drafting, DraftUse
from appliance.engine.limits import Limits
from appliance.engine.outputs import Broken, Output, Sampled
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import ChosenToken, Logprobs, Runner, SampleRequest
from appliance.engine.scheduler import Scheduler
from appliance.engine.scoring import Prefilled, newly_scored, score_requests
from appliance.engine.sequence import Sequence, SequenceStatus
from appliance.engine.shared_time import share_time
from appliance.engine.stage_times import StageTimes
from appliance.engine.step import ScheduledStep
from appliance.engine.suspended import Suspended
from appliance.errors import ApplianceError, CacheFull, DecodeFailed, PromptTooLong
from appliance.protocol.events import FinishReason
from appliance.protocol.relief import NO_RELIEF, Relief

_log = logging.getLogger(__name__)


class Engine:
    """Continuous batching over one `Runner`:
    sequences join and leave the batch at every step.

    Single-threaded.
    """

    def __init__(
        self,
        runner: Runner,
        limits: Limits,
        policy: KeepPolicy,
        *,
        clock: Callable[[], float] = time.perf_counter,
        cost: StepCost | None = None,
        drafting: Drafting | None = None,
    ) -> None:
        """Without `drafting`, or with a runner that cannot take rows back, each step
        brings a sequence one token.
        """
        self._runner = runner
        self._clock = clock
        self._cost = cost or StepCost(runner.capabilities.attention)
        self.long_cost = StepCost(runner.capabilities.attention, LONG_RUN)  # for planning fleets
        self._end_tokens = runner.capabilities.end_tokens
        self._num_vocab = runner.capabilities.num_vocab
        self._cells = Cells(runner, policy, self._cost, clock)
        self._scheduler = Scheduler(runner.capabilities, limits, self._cost, self._cells)
        self._sequences: dict[int, Sequence] = {}
        self._suspended = Suspended(runner)
        self._drafting = drafting if runner.capabilities.max_draft_rows else None
        self._was_plain = False  # the step before
        self._relief = NO_RELIEF
        self.work = Work(self._cost)
        self.num_steps = 0
        self.num_rows = 0  # of all steps
        self.num_sampled_tokens = 0
        self.computed_s = 0.0  # of all steps, what `StepCost` learns from

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    @property
    def running(self) -> list[Sequence]:
        """In order of admission; may be asked for on any thread: a list is copied in one go,
        without running Python code in between, a tuple not before Python 3.12.
        """
        return list(self._scheduler.running.values())

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def num_preempted(self) -> int:
        return self._scheduler.num_preempted

    @property
    def num_used_cells(self) -> int:
        return self._cells.num_used

    @property
    def cells(self) -> Cells:
        """Between two steps."""
        return self._cells

    @property
    def num_host_bytes(self) -> int:
        return self._cells.num_host_bytes

    @property
    def drafts(self) -> DraftUse:
        """What drafting brought to all requests so far."""
        return DraftUse() if self._drafting is None else self._drafting.total

    def relieve(self, relief: Relief) -> None:
        """Takes less memory from now on; requests that were accepted go on, and are
        computed again where need be.
        """
        self._relief = relief
        self._cells.bound_host(relief.max_host_bytes)

    def pace(self, share: float) -> float:
        """Uses this share of the machine's power, with fewer threads where these change
        no answer; returns in which share of time steps are to be computed for that.
        """
        duty = self._scheduler.planner.duty = self._runner.pace(share)
        return duty

    def learn_curve(self, limit_s: float) -> None:
        """Before the first request: measures how long steps take, for about `limit_s`."""
        learn_curve(self._runner, self._cost, self._clock, limit_s)

    def take_back(self, saved: SavedPrefix) -> None:
        """A prefix that was saved in an earlier life of this model."""
        self._cells.take_back(saved)
        if self._drafting is not None:
            self._drafting.remember(saved.tokens)

    def next_for_disk(self) -> SavedPrefix | None:
        """A prefix worth a file; the caller writes it and sets its `on_disk`."""
        return self._cells.next_for_disk()

    def submit(self, request: EngineRequest) -> None:
        """Accepts a request.

        Raises `BadRequest`, `PromptTooLong`, `MemoryPressure` or `QueueFull`, and then
        keeps nothing of it.
        """
        assert request.request_id not in self._sequences
        longest = self._scheduler.longest_request
        if len(request.prompt) >= longest:
            raise PromptTooLong.of(len(request.prompt), longest - 1)
        request.check_tokens(self._num_vocab)
        seq = request.sequence(longest)
        seq.times = StageTimes(self._clock)
        if self._relief.max_prompt_tokens is not None:
            self._relief.check(seq.num_prompt_tokens, self._cells.num_resident(seq.reusable_tokens))
        self._scheduler.add(seq)
        self._sequences[seq.request_id] = seq

    def finish(self, request_id: int) -> None:
        """Ends a request before the next step: cancelled, or its text is complete.

        Unknown ids are ignored.
        """
        seq = self._sequences.get(request_id)
        if seq is not None:
            self._remove(seq)
        elif (seq := self._suspended.take(request_id)) is not None:
            self._suspended.close_sampler(seq)

    def suspend(self, request_id: int) -> None:
        """Frees its slot before the next step; what it computed stays as a prefix.

        It waits for `resume` or `finish`. Unknown ids are ignored.
        """
        seq = self._sequences.pop(request_id, None)
        if seq is not None:
            self._leave_drafting(seq)
            self._scheduler.remove(seq)
            self._suspended.put(seq)

    def resume(self, request_id: int) -> None:
        """Goes on where `suspend` interrupted it, before anybody new; unknown ids are
        ignored.
        """
        seq = self._suspended.take(request_id)
        if seq is not None:
            self._sequences[request_id] = seq
            self._scheduler.take_again(seq)

    def step(self) -> list[Output]:
        """One decode for all running sequences; returns what it brought, oldest first."""
        broken = self._open_admitted()
        step = self._scheduler.schedule()
        if not step.batch:
            return broken
        self.num_steps += 1
        drafting_s = self._clock()
        self._draft(step)
        self.num_rows += len(step.batch)
        self.work.count(len(step.batch), step.num_attended, step.num_scanned)
        started_s = self._clock()
        try:
            self._runner.use_adapters(step.adapters)
            self._runner.decode(step.batch)
            scored = self._score(step)
            sampled = self._runner.sample(self._sample_requests(step))
        except DecodeFailed as error:
            if isinstance(error, CacheFull) and self._scheduler.give_way():
                return broken
            return broken + self._break_all(step, error)
        elapsed_ms, draft_ms = (self._clock() - started_s) * 1000, (started_s - drafting_s) * 1000
        self.computed_s += elapsed_ms / 1000
        share_time(step, self._sequences, decode_ms=elapsed_ms, draft_ms=draft_ms)
        chosen = dict(zip(step.logit_rows, sampled, strict=True))
        self._observe(step, chosen, elapsed_ms)
        return broken + self._commit(step, scored, chosen)

    def _score(self, step: ScheduledStep) -> dict[int, list[Logprobs | DecodeFailed]]:
        """What the model gives to the step's prompts that are scored, by request id."""
        if not step.scored:
            return {}
        scores = iter(self._runner.score(score_requests(step, self._sequences)))
        return {i: list(islice(scores, len(rows))) for i, rows in step.scored.items()}

    def _observe(
        self,
        step: ScheduledStep,
        chosen: dict[int, list[ChosenToken] | DecodeFailed],
        elapsed_ms: float,
    ) -> None:
        """How long the step took, for all who learn from that."""
        self._learn(step, elapsed_ms)
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "step %d: %s, %.1f ms, %d waiting",
                *(self.num_steps, step.summary, elapsed_ms, self.num_waiting),
            )
        if self._drafting is not None:
            self._drafting.observe({i: _num_accepted(chosen[i]) for i in step.drafted}, elapsed_ms)

    def _learn(self, step: ScheduledStep, elapsed_ms: float) -> None:
        """Teaches the cost model what the step took: not one that does more than compute rows,
        nor, but in the long run, one of next tokens alone after another kind: these take longer.
        """
        is_plain = len(step.batch) == len(step.logit_rows)
        if not (step.scored or step.does_more):
            shape = self._cost.shape(len(step.batch), step.num_attended, step.num_scanned)
            if self.num_steps % LONG_RUN_EVERY == 0:
                self.long_cost.observe(shape, elapsed_ms)
            if not is_plain or self._was_plain:
                self._cost.observe(shape, elapsed_ms)
        self._was_plain = is_plain

    def _draft(self, step: ScheduledStep) -> None:
        """Adds drafted tokens to the step, where that is expected to pay."""
        if self._drafting is None:
            return
        room = self._scheduler.room_for_drafts(step)
        if room.sequences and room.most_rows > 0:
            self._scheduler.add_drafted(step, self._drafting.draft(room))

    def _open_admitted(self) -> list[Output]:
        broken: list[Output] = []
        for seq in self._scheduler.admit():
            assert seq.slot is not None
            if seq.times is not None:
                seq.times.note_admitted()
            if seq.has_sampler_elsewhere:
                self._suspended.reopen_sampler(seq)
                continue
            try:
                self._runner.open_sampler(seq.slot, seq.sampling, seq.plain_tokens, seq.constraint)
            except ApplianceError as error:
                del self._sequences[seq.request_id]
                self._scheduler.remove(seq)
                broken.append(Broken(seq.request_id, error))
        return broken

    def _sample_requests(self, step: ScheduledStep) -> list[SampleRequest]:
        running = self._scheduler.running
        requests = []
        for request_id, rows in step.logit_rows.items():
            slot = running[request_id].slot
            assert slot is not None
            requests.append(SampleRequest(slot, tuple(rows), step.drafted.get(request_id, ())))
        return requests

    def _commit(
        self,
        step: ScheduledStep,
        scored: dict[int, list[Logprobs | DecodeFailed]],
        chosen: dict[int, list[ChosenToken] | DecodeFailed],
    ) -> list[Output]:
        for request_id, num_rows in step.computed.items():
            self._grow(self._sequences[request_id], num_rows)
        outputs: list[Output] = []
        for request_id in step.computed:
            outputs += self._prefilled(self._sequences[request_id], scored.get(request_id, []))
        for request_id, choices in chosen.items():
            if request_id not in self._sequences:
                continue  # its scores were no numbers
            seq = self._sequences[request_id]
            if isinstance(choices, DecodeFailed):
                outputs.append(self._break(seq, choices))
            else:
                outputs += self._append(seq, choices, len(step.drafted.get(request_id, ())))
        return outputs

    def _prefilled(self, seq: Sequence, scores: list[Logprobs | DecodeFailed]) -> list[Output]:
        """What is reported of a prompt before its answer begins, or its end where no
        answer is wanted.
        """
        logprobs = [each for each in scores if not isinstance(each, DecodeFailed)]
        if len(logprobs) < len(scores):
            return [
                self._break(seq, next(each for each in scores if isinstance(each, DecodeFailed)))
            ]
        tokens = newly_scored(seq, logprobs) if seq.has_unscored_tokens else ()
        is_end = seq.max_new_tokens == 0 and seq.num_pending_tokens == 0
        if is_end:
            self._remove(seq)
        reason = FinishReason.LENGTH if is_end else None
        is_told = tokens or is_end or seq.reports_prefill
        return [Prefilled.of(seq, tokens, reason)] if is_told else []

    def _append(self, seq: Sequence, choices: list[ChosenToken], num_drafted: int) -> list[Output]:
        """New tokens of a sequence: drafted ones that were right have their cells
        already, wrong ones lose them.
        """
        seq.status = SequenceStatus.DECODE
        assert seq.slot is not None
        if seq.times is not None:
            seq.times.note_token()
        drafts = None if self._drafting is None else self._drafting.use(seq.slot)
        outputs: list[Output] = []
        for choice in choices:
            seq.tokens.append(choice.token)
            outputs.append(Sampled.of(seq, choice, self._finish_reason(seq), drafts))
        self.num_sampled_tokens += len(choices)
        num_accepted = len(choices) - 1
        if num_accepted:
            self._grow(seq, num_accepted)
        if num_accepted < num_drafted:
            self._runner.remove_tail(seq.slot, seq.num_computed_tokens)
        if self._finish_reason(seq) is not None:
            self._remove(seq)
        elif len(seq.tokens) >= self._scheduler.longest_request:
            self._leave_drafting(seq)
            self._scheduler.shift_context(seq)
        return outputs

    def _grow(self, seq: Sequence, num_rows: int) -> None:
        assert seq.slot is not None
        first = seq.num_computed_tokens
        seq.num_computed_tokens += num_rows
        self._cells.grow(seq.slot, seq.tokens[first : seq.num_computed_tokens])
        if seq.num_computed_tokens in seq.places:
            self._cells.checkpoint(
                seq.slot,
                seq.tokens[: seq.num_computed_tokens],
                is_branch=seq.places[seq.num_computed_tokens],
                is_exact=seq.is_repeatable,
            )

    def _finish_reason(self, seq: Sequence) -> FinishReason | None:
        if seq.tokens[-1] in self._end_tokens and not seq.sampling.ignore_eos:
            return FinishReason.STOP
        if seq.num_new_tokens >= seq.max_new_tokens:
            return FinishReason.LENGTH
        return None

    def _break_all(self, step: ScheduledStep, error: DecodeFailed) -> list[Output]:
        """Every sequence of a failed batch ends: its cells hold nothing to go on from."""
        _log.error("decoding %d rows failed: %s", len(step.batch), error)
        return [self._break(self._sequences[request_id], error) for request_id in step.computed]

    def _break(self, seq: Sequence, error: DecodeFailed) -> Broken:
        self._remove(seq, keep=False)
        return Broken(seq.request_id, error)

    def _remove(self, seq: Sequence, *, keep: bool = True) -> None:
        del self._sequences[seq.request_id]
        if seq.slot is not None:
            self._leave_drafting(seq)
            self._runner.close_sampler(seq.slot)
        self._suspended.close_sampler(seq)
        self._scheduler.remove(seq, keep=keep)

    def _leave_drafting(self, seq: Sequence) -> None:
        if self._drafting is not None and seq.slot is not None:
            self._drafting.release(seq.slot, seq.request_id)


def _num_accepted(choices: list[ChosenToken] | DecodeFailed) -> int:
    return 0 if isinstance(choices, DecodeFailed) else len(choices) - 1
