"""Decides each step's rows: who is admitted, who decodes, how much of whose prompt is prefilled.

Computes nothing.

Decode rows come first. Then as many prefill rows as the cost model chooses within the
stall budget, so that no running stream waits longer than `max_stall_ms` for somebody
else's prompt; of several prompts in progress the shortest come first, so that a short
one does not wait for a long one, but the oldest always has its share.

A sequence is admitted when there are cells for its prompt. Answers grow: when cells run
out, kept prefixes go first, then the youngest sequence is preempted, for one older than
itself only, and nobody younger than a preempted one gets rows. So the oldest always
moves on, and everybody becomes the oldest in time. Preempted ones go on before anybody
new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

from appliance.engine.batch import Batch
from appliance.engine.cells import Cells
from appliance.engine.cost import StepCost, StepShape
from appliance.engine.drafting.drafter import DraftRoom
from appliance.engine.host_prefixes import num_common
from appliance.engine.runner import Capabilities
from appliance.engine.sequence import Sequence, SequenceStatus, Sharing
from appliance.errors import PromptTooLong, QueueFull

_MIN_LONE_ROWS = 10  # or longer, where a single row takes so long that prompts would never end
# nobody decoding: cancelling, the heartbeat and the next arrival still never wait
# longer
_MAX_STEP_MS = 1000
# to compute fewer again costs no more than the additional step that waiting takes
_MIN_SHARED_ROWS = 16
_MIN_STALL_STEPS = 1.5  # a budget below so many decode steps could not be kept whatever is computed
# cells for each running answer beyond its next, so that who was let in is not thrown
# out at once
_HEADROOM = 16
_SCAN_PAD = 256  # llama.cpp scans cells in blocks of so many


@dataclass(frozen=True)
class Limits:
    """`ctx` is the longest request in tokens (prompt and answer), `max_waiting_tokens`
    bounds the queue's prompts.

    `max_row_cells` bounds the rows of a step times the cells that each scans, where
    their product is what memory was planned for (attention scores that are all kept at
    once).
    """

    ctx: int
    max_waiting_tokens: int
    max_stall_ms: int
    max_row_cells: int | None = None


@dataclass(kw_only=True)
class Scheduled:
    """One step: the rows, and for each sequence whose next tokens are sampled the rows
    that hold its logits.
    """

    batch: Batch = field(default_factory=Batch)
    # request id -> rows of known tokens of it in the batch
    computed: dict[int, int] = field(default_factory=dict)
    logit_rows: dict[int, list[int]] = field(default_factory=dict)  # request id -> row indices
    # request id -> tokens in rows of their own
    drafted: dict[int, tuple[int, ...]] = field(default_factory=dict)
    # request id -> rows whose logits score the prompt
    scored: dict[int, list[int]] = field(default_factory=dict)
    num_attended: int = 0  # the rows' own cells, summed
    num_scanned: int = 0  # cells that each row scans

    @property
    def num_logit_rows(self) -> int:
        return sum(map(len, (*self.logit_rows.values(), *self.scored.values())))


class Scheduler:
    """Holds every unfinished sequence: waiting in arrival order, and running by request
    id in order of admission.
    """

    def __init__(
        self, capabilities: Capabilities, limits: Limits, cost: StepCost, cells: Cells
    ) -> None:
        self._limits = limits
        self._cost = cost
        self._cells = cells
        self._max_rows = capabilities.max_rows
        self._max_draft_rows = capabilities.max_draft_rows
        self._max_logit_rows = capabilities.max_logit_rows
        self._free_slots = list(reversed(range(capabilities.num_slots)))
        self.longest_request = min(limits.ctx, capabilities.num_cells)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}

    @property
    def num_waiting_tokens(self) -> int:
        return sum(seq.num_prompt_tokens for seq in self.waiting)

    @property
    def num_preempted(self) -> int:
        return sum(seq.status is SequenceStatus.PREEMPTED for seq in self.running.values())

    def add(self, seq: Sequence) -> None:
        """Queues a sequence. Raises `PromptTooLong` or `QueueFull`; then nothing is kept of it."""
        if seq.num_prompt_tokens >= self.longest_request:
            raise PromptTooLong.of(seq.num_prompt_tokens, self.longest_request - 1)
        num_waiting = self.num_waiting_tokens
        if self.waiting and num_waiting + seq.num_prompt_tokens > self._limits.max_waiting_tokens:
            raise QueueFull(
                f"{num_waiting} prompt tokens are waiting already; with this request's "
                f"{seq.num_prompt_tokens} they would be more than --max-waiting "
                f"{self._limits.max_waiting_tokens}. Try again later."
            )
        if not seq.shifts_context:
            seq.max_new_tokens = min(
                seq.max_new_tokens, self.longest_request - seq.num_prompt_tokens
            )
        self.waiting.append(seq)

    def admit(self) -> list[Sequence]:
        """Lets preempted sequences go on, then moves others from the queue into free
        slots, as far as cells allow.

        Strictly in order of arrival. Returns those that are new.
        """
        self._cells.expire()
        for seq in self.running.values():
            if seq.status is SequenceStatus.PREEMPTED:
                while younger := self._youngest_after(seq):
                    self._preempt(younger)
                if not self._has_room(seq):
                    return []
                self._resume(seq)
        admitted = []
        while self.waiting and self._free_slots and self._has_room(self.waiting[0]):
            seq = self.waiting.popleft()
            seq.slot = self._free_slots.pop()
            self._begin_or_wait(seq)
            self.running[seq.request_id] = seq
            admitted.append(seq)
        return admitted

    def remove(self, seq: Sequence, *, keep: bool = True) -> None:
        """Forgets a sequence, waiting or running: its slot is free again, its prefix is
        kept if its cells are sound.
        """
        if seq.status is SequenceStatus.WAITING:
            self.waiting.remove(seq)
            seq.status = SequenceStatus.FINISHED
            return
        slot = _slot(seq)
        del self.running[seq.request_id]
        status, seq.status = seq.status, SequenceStatus.FINISHED
        has_cells = status not in (SequenceStatus.PREEMPTED, SequenceStatus.SHARING)
        if has_cells and not keep:
            self._cells.drop(slot)
        self._begin_heirs(seq)
        if has_cells and keep:
            self._leave(seq)
        elif status is SequenceStatus.PREEMPTED:
            self._cells.forget_preempted(slot)
        self._free_slots.append(slot)

    def shift_context(self, seq: Sequence) -> None:
        """Discards half of what is behind the prompt's beginning, and computes the rest
        again at its new positions.

        Computed like any prompt, so within the stall budget; moving the cells instead
        would move them for everybody who shares them.
        """
        self._begin_heirs(seq)  # what they wait for is about to be discarded
        self._leave(seq)
        num_kept = min(seq.num_prompt_tokens, self.longest_request // 2)
        num_discarded = (len(seq.tokens) - num_kept + 1) // 2
        del seq.tokens[num_kept : num_kept + num_discarded]
        seq.num_discarded_tokens += num_discarded
        seq.num_computed_tokens = self._start(seq, is_again=True)
        seq.status = SequenceStatus.PREFILL

    def schedule(self) -> Scheduled:
        """The rows of the next step; empty if nothing is running."""
        for seq in self._entitled():
            sharing = seq.shares_with
            if sharing is not None and sharing.owner.num_computed_tokens >= sharing.num_tokens:
                self._begin_or_wait(seq)
        step = Scheduled()
        for seq, num_rows in self._claimed(self._wanted_rows()):
            _add_rows(step, seq, num_rows)
        step.num_scanned = self._num_scanned(len(step.batch))
        return step

    def room_for_drafts(self, step: Scheduled) -> DraftRoom:
        """Drafted tokens get cells that are free anyway: for them nothing is given up,
        nor anybody preempted.
        """
        decoding = [
            seq for i in step.logit_rows if (seq := self.running[i]).status is SequenceStatus.DECODE
        ]
        num_free = min(self._cells.num_free, self._most_rows(len(decoding))) - len(step.batch)
        most_rows = min(num_free, self._max_draft_rows, self._max_logit_rows - step.num_logit_rows)
        return DraftRoom(decoding, len(step.batch), most_rows, self._drafted_shapes(step, decoding))

    def _drafted_shapes(
        self, step: Scheduled, decoding: list[Sequence]
    ) -> Callable[[int | None], StepShape]:
        num_own = 0

        def shape(num_drafted: int | None) -> StepShape:
            nonlocal num_own
            # when first asked: mostly nobody does
            num_own = num_own or sum(len(seq.tokens) for seq in decoding)
            if num_drafted is None:
                return self._cost.shape(len(decoding), num_own, self._num_scanned(len(decoding)))
            num_rows = len(step.batch) + num_drafted
            num_attended = step.num_attended + num_drafted * num_own // len(decoding)
            return self._cost.shape(num_rows, num_attended, self._num_scanned(num_rows))

        return shape

    def add_drafted(self, step: Scheduled, drafted: Mapping[int, tuple[int, ...]]) -> None:
        """Rows for tokens that may follow those of a sequence, as far as it may still
        go on; each wants logits.
        """
        for request_id, tokens in drafted.items():
            seq = self.running[request_id]
            # The step brings one token more than are accepted.
            most = (
                min(seq.max_new_tokens - seq.num_new_tokens, self.longest_request - len(seq.tokens))
                - 1
            )
            tokens = tokens[: max(most, 0)]
            step.drafted[request_id] = tokens
            for position, token in enumerate(tokens, len(seq.tokens)):
                step.logit_rows[request_id].append(
                    step.batch.add(token, position, _slot(seq), wants_logits=True)
                )
                step.num_attended += position + 1
        if drafted:
            self._cells.note_peak(len(step.batch))
            step.num_scanned = self._num_scanned(len(step.batch))

    def _entitled(self) -> Iterator[Sequence]:
        """The running ones, the oldest first, but for those younger than one that was
        preempted: they come after it.
        """
        return takewhile(
            lambda seq: seq.status is not SequenceStatus.PREEMPTED, self.running.values()
        )

    def _wanted_rows(self) -> dict[Sequence, int]:
        """How many rows each sequence is to have, those that decode first."""
        entitled = list(self._entitled())
        wanted = {seq: 1 for seq in entitled if seq.status is SequenceStatus.DECODE}
        prefilling = [seq for seq in entitled if seq.status is SequenceStatus.PREFILL]
        if prefilling:
            num_rows = self._num_prefill_rows(list(wanted), prefilling)
            wanted.update(_shares(prefilling, num_rows))
            self._bound_scored(wanted, len(entitled))
        return wanted

    def _bound_scored(self, wanted: dict[Sequence, int], num_running: int) -> None:
        """Memory was planned for logits of so many rows: prompts that are scored share
        what the others may not want.
        """
        scored = [seq for seq in wanted if seq.has_unscored_tokens]
        for seq in scored:
            wanted[seq] = min(wanted[seq], 1 + (self._max_logit_rows - num_running) // len(scored))

    def _claimed(self, wanted: dict[Sequence, int]) -> list[tuple[Sequence, int]]:
        """The rows that there are cells for, once younger sequences have been preempted
        for older ones.
        """
        claimed: dict[Sequence, int] = {}
        num_claimed = 0
        for seq in self._entitled():  # asked anew for each: a claim may preempt those that follow
            if wanted.get(seq, 0):
                claimed[seq] = self._claim(seq, wanted[seq], num_claimed)
                num_claimed += claimed[seq]
        return [(seq, claimed[seq]) for seq in wanted if claimed.get(seq, 0)]

    def _claim(self, seq: Sequence, num_rows: int, num_claimed: int) -> int:
        """How many of the rows there are cells for, beside those claimed already; at
        least one for the oldest.
        """
        while not self._cells.make_room(num_claimed + num_rows):
            num_free = self._cells.num_free - num_claimed
            if num_free > 0:
                return num_free
            victim = self._youngest_after(seq)
            if victim is None:
                return 0
            self._preempt(victim)
        return num_rows

    def _youngest_after(self, seq: Sequence) -> Sequence | None:
        """The youngest sequence that is younger than `seq` and has cells."""
        younger = takewhile(lambda other: other is not seq, reversed(self.running.values()))
        return next((other for other in younger if other.num_computed_tokens > 0), None)

    def _preempt(self, seq: Sequence) -> None:
        if seq.uses_cache:
            self._cells.preempt(_slot(seq), seq.tokens)
        else:
            self._cells.drop(_slot(seq))
        seq.status = SequenceStatus.PREEMPTED
        seq.num_computed_tokens = 0

    def _leave(self, seq: Sequence) -> None:
        """Its cells are a prefix for others from now on, where it leaves one."""
        if seq.uses_cache:
            self._cells.finish(_slot(seq), seq.tokens, is_wanted=seq.keeps_prefix)
        else:
            self._cells.drop(_slot(seq))

    def _resume(self, seq: Sequence) -> None:
        slot = _slot(seq)
        seq.num_computed_tokens = self._start(seq, is_again=True)
        self._cells.forget_preempted(slot)
        is_decoding = seq.num_new_tokens > 0 and seq.num_pending_tokens == 1
        seq.status = SequenceStatus.DECODE if is_decoding else SequenceStatus.PREFILL

    def _has_room(self, seq: Sequence) -> bool:
        """Whether its known tokens fit beside what older ones have and soon need; kept
        prefixes can go.
        """
        others = list(takewhile(lambda other: other is not seq, self.running.values()))
        if not others:
            return True  # no request is longer than the pool
        sharing = self._sharing(seq) if seq.status is SequenceStatus.WAITING else None
        num_settled = (
            sharing.num_tokens if sharing else self._cells.num_resident(seq.reusable_tokens)
        )
        num_needed = len(seq.tokens) - num_settled + _headroom(seq)
        num_needed += sum(o.num_pending_tokens - _num_promised(o) + _headroom(o) for o in others)
        return self._cells.num_taken(seq.reusable_tokens) + num_needed <= self._cells.num_cells

    def _begin_or_wait(self, seq: Sequence) -> None:
        """Starts from the longest known prefix, unless a prompt in progress will soon
        know a longer one.
        """
        seq.shares_with = self._sharing(seq)
        if seq.shares_with is not None:
            seq.status = SequenceStatus.SHARING
            return
        seq.num_cached_tokens = seq.num_computed_tokens = self._start(seq)
        seq.status = SequenceStatus.PREFILL

    def _start(self, seq: Sequence, *, is_again: bool = False) -> int:
        return self._cells.start(
            _slot(seq), seq.reusable_tokens, is_again=is_again, is_private=not seq.uses_cache
        )

    def _sharing(self, seq: Sequence) -> Sharing | None:
        """The prompt in progress worth waiting for: computing again what it will share
        costs more than a step.
        """
        if seq.reusable_tokens is not seq.tokens:
            return None
        num_known = self._cells.num_known(seq.tokens)
        best: Sharing | None = None
        for owner in self.running.values():
            if owner is seq:
                break  # only on earlier ones, so that nobody waits in a circle
            if owner.uses_cache and owner.status in (
                SequenceStatus.PREFILL,
                SequenceStatus.SHARING,
            ):
                num_shared = num_common(owner.tokens, seq.tokens, len(seq.tokens) - 1)
                if (
                    num_shared > best.num_tokens
                    if best
                    else num_shared >= num_known + _MIN_SHARED_ROWS
                ):
                    best = Sharing(owner, num_shared)
        return best

    def _begin_heirs(self, owner: Sequence) -> None:
        """Those that wait for its prompt wait no longer: the first goes on from its
        cells, if they are still there.
        """
        for seq in self.running.values():
            if seq.shares_with and seq.shares_with.owner is owner:
                self._begin_or_wait(seq)

    def _num_scanned(self, num_rows: int) -> int:
        """How many cells each row of a step looks at or past."""
        num_cells = max(self._cells.num_scanned, self._cells.num_used + num_rows)
        return -(-num_cells // _SCAN_PAD) * _SCAN_PAD

    def _num_prefill_rows(self, decoding: list[Sequence], prefilling: list[Sequence]) -> int:
        """How many prompt rows to compute beside the decoding sequences' rows."""
        num_decode_rows = len(decoding)
        num_attended = sum(len(seq.tokens) for seq in decoding)
        first = sum(seq.num_computed_tokens for seq in prefilling) / len(prefilling)

        def shape(num_rows: int) -> StepShape:
            num_prefill_rows = num_rows - num_decode_rows
            num_own = int(num_prefill_rows * (first + num_prefill_rows / len(prefilling) / 2))
            return self._cost.shape(num_rows, num_attended + num_own, self._num_scanned(num_rows))

        one_row_ms = self._cost.estimate_ms(StepShape(1, first)) or 0.0
        budget_ms = max(_MAX_STEP_MS, _MIN_LONE_ROWS * one_row_ms)
        if decoding:
            decoding_alone = self._cost.shape(
                num_decode_rows, num_attended, self._num_scanned(num_decode_rows)
            )
            decode_ms = self._cost.estimate_ms(decoding_alone) or 0.0
            budget_ms = max(self._limits.max_stall_ms, _MIN_STALL_STEPS * decode_ms)
        num_pending = sum(seq.num_pending_tokens for seq in prefilling)
        return self._cost.best_rows(
            num_decode_rows, num_pending, self._most_rows(num_decode_rows), budget_ms, shape
        )

    def _most_rows(self, num_decode_rows: int) -> int:
        """Of a step, one of them for a prompt; decoding is never held up by `max_row_cells`."""
        if self._limits.max_row_cells is None:
            return self._max_rows
        most = self._limits.max_row_cells // self._num_scanned(num_decode_rows + 1)
        most = self._limits.max_row_cells // self._num_scanned(min(most, self._max_rows))
        return min(max(most, num_decode_rows + 1), self._max_rows)


def _slot(seq: Sequence) -> int:
    assert seq.slot is not None
    return seq.slot


def _num_promised(seq: Sequence) -> int:
    """Pending tokens whose cells somebody else is to fill."""
    return seq.shares_with.num_tokens if seq.shares_with else 0


def _headroom(seq: Sequence) -> int:
    """Cells that its answer will soon need behind its known tokens; the last token
    never needs one.
    """
    return max(min(_HEADROOM, seq.max_new_tokens - seq.num_new_tokens - 1), 0)


def _shares(prefilling: list[Sequence], num_rows: int) -> dict[Sequence, int]:
    """Splits rows: the oldest gets an equal share, so that it moves on whatever comes;
    then the shortest rest first.

    So short prompts do not wait for long ones, and of several long ones the first is
    done early instead of all late.
    """
    oldest = prefilling[0]
    shares = {oldest: min(oldest.num_pending_tokens, -(-num_rows // len(prefilling)))}
    num_left = num_rows - shares[oldest]
    for seq in sorted(prefilling, key=lambda seq: seq.num_pending_tokens):
        num_more = min(seq.num_pending_tokens - shares.get(seq, 0), num_left)
        shares[seq] = shares.get(seq, 0) + num_more
        num_left -= num_more
    return {seq: share for seq, share in shares.items() if share}


def _add_rows(step: Scheduled, seq: Sequence, num_rows: int) -> None:
    """Adds the next `num_rows` known tokens of `seq`; the one that completes them asks
    for logits to sample from.
    """
    slot, first = _slot(seq), seq.num_computed_tokens
    for position in range(first, first + num_rows):
        is_sampled = position == len(seq.tokens) - 1 and seq.max_new_tokens > 0
        is_scored = seq.is_scored_by(position)
        row = step.batch.add(seq.tokens[position], position, slot, is_sampled or is_scored)
        if is_sampled:
            step.logit_rows[seq.request_id] = [row]
        if is_scored:
            step.scored.setdefault(seq.request_id, []).append(row)
        step.num_attended += position + 1
    step.computed[seq.request_id] = num_rows
