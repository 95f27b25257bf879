"""Decides who is admitted, who computes rows in each step, and who gives way.

Computes nothing.

A sequence is admitted when there are cells for its prompt. Answers grow: when cells run
out, kept prefixes go first, then the youngest sequence is preempted, for one older than
itself only, and nobody younger than a preempted one gets rows. So the oldest always
moves on, and everybody becomes the oldest in time. Preempted ones go on before anybody
new. How many rows a step has is the `RowPlanner`'s choice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import takewhile

from appliance.engine.adapters.turns import AdapterTurns
from appliance.engine.cache.cells import Cells
from appliance.engine.cost import StepCost
from appliance.engine.drafting.drafter import DraftRoom
from appliance.engine.limits import Limits
from appliance.engine.room import has_room
from appliance.engine.row_planner import RowPlanner
from appliance.engine.runner import Capabilities
from appliance.engine.sequence import Sequence, SequenceStatus
from appliance.engine.sharing import find_sharing
from appliance.engine.step import ScheduledStep
from appliance.errors import PromptTooLong, QueueFull


class Scheduler:
    """Holds every unfinished sequence: waiting in arrival order, and running by request
    id in order of admission.
    """

    def __init__(
        self, capabilities: Capabilities, limits: Limits, cost: StepCost, cells: Cells
    ) -> None:
        self._limits = limits
        self._cells = cells
        self.planner = RowPlanner(capabilities, limits, cost, cells)
        self._has_exact_rows = capabilities.exact_rows  # every answer repeats itself anyway
        turn_ms = limits.max_stall_ms if limits.adapter_turn_ms is None else limits.adapter_turn_ms
        self._turns = AdapterTurns(turn_ms / 1000, cells.clock)
        self._can_move = not capabilities.why_cells_stay
        self._max_draft_depth = capabilities.max_draft_depth
        # A step of several passes may move a state away from the earlier ones of it.
        self._wants_equal_rows = capabilities.wants_equal_rows
        self._has_moved = False  # since the last step
        # Until somebody ends: a full cache is what the runner says it is.
        self._most_active: int | None = None
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
        """Queues a sequence.

        Raises `PromptTooLong` or `QueueFull`; then nothing is kept of it.
        """
        if seq.num_prompt_tokens >= self.longest_request:
            raise PromptTooLong.of(seq.num_prompt_tokens, self.longest_request - 1)
        num_waiting = self.num_waiting_tokens
        if self.waiting and num_waiting + seq.num_prompt_tokens > self._limits.max_waiting_tokens:
            raise QueueFull(
                f"The queue is full: {num_waiting} prompt tokens are waiting, and this request's "
                f"{seq.num_prompt_tokens} would exceed --max-waiting "
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
                if self._is_full or not has_room(seq, self.running.values(), self._cells):
                    return []
                self._resume(seq)
        admitted = []
        while (
            self.waiting
            and self._free_slots
            and not self._is_full
            and has_room(self.waiting[0], self.running.values(), self._cells)
        ):
            seq = self.waiting.popleft()
            seq.slot = self._free_slots.pop()
            is_exact = self._has_exact_rows and not seq.adapters.scales
            seq.is_repeatable &= not (is_exact or self.running or self.waiting)
            self._begin_or_wait(seq)
            self.running[seq.request_id] = seq
            admitted.append(seq)
        if admitted and len(self.running) > 1:
            for seq in self.running.values():
                self._note_exact(seq)
                seq.is_repeatable = False
        return admitted

    def remove(self, seq: Sequence, *, keep: bool = True) -> None:
        """Forgets a sequence; with `keep`, its cells are sound and stay as a prefix."""
        if seq.status is SequenceStatus.WAITING:
            self.waiting.remove(seq)
            seq.status = SequenceStatus.FINISHED
            return
        slot = seq.admitted_slot
        self._most_active = None
        del self.running[seq.request_id]
        status, seq.status = seq.status, SequenceStatus.FINISHED
        has_cells = status not in (SequenceStatus.PREEMPTED, SequenceStatus.SHARING)
        if has_cells and keep and self._cells.has_checkpoints:
            self._leave_prefix(seq)  # first: who waits could not go on from its own cells
        elif has_cells and not keep:
            self._cells.drop(slot)
        self._release_waiters(seq)
        if has_cells and keep and not self._cells.has_checkpoints:
            self._leave_prefix(seq)
        elif status is SequenceStatus.PREEMPTED:
            self._cells.forget_preempted(slot)
        self._free_slots.append(slot)

    def take_again(self, seq: Sequence) -> None:
        """A sequence that was removed before its end is the next to be admitted."""
        seq.status = SequenceStatus.WAITING
        seq.was_suspended = True
        seq.is_repeatable = False  # what it has computed of its answer is taken over
        self.waiting.appendleft(seq)

    def give_way(self) -> bool:
        """Preempts the youngest sequence, for a runner that has no room for a step,
        whatever was counted; False where only one has any.
        """
        active = [
            seq
            for seq in self.running.values()
            if seq.status in (SequenceStatus.PREFILL, SequenceStatus.DECODE)
        ]
        if len(active) < 2:
            return False
        self._preempt(active[-1])
        self._most_active = self._num_active
        return True

    @property
    def _num_active(self) -> int:
        return len(self.running) - self.num_preempted

    @property
    def _is_full(self) -> bool:
        return self._most_active is not None and self._num_active >= self._most_active

    def shift_context(self, seq: Sequence) -> None:
        """Discards half of what follows the prompt's beginning, and computes the rest
        again at its new positions.

        Computed like any prompt, so within the stall budget, but for moved copies of
        cells where it may have such.
        """
        self._release_waiters(seq)  # what they wait for is about to be discarded
        self._leave_prefix(seq)
        seq.is_repeatable, seq.num_exact_tokens = False, 0
        num_kept = min(seq.num_prompt_tokens, self.longest_request // 2)
        num_discarded = (len(seq.tokens) - num_kept + 1) // 2
        del seq.tokens[num_kept : num_kept + num_discarded]
        seq.num_discarded_tokens += num_discarded
        seq.was_interrupted = True
        seq.num_computed_tokens = self._start(seq, is_resumed=True)
        # Moved cells are for the next step: others' drafted tokens still have theirs.
        seq.next_run_at = seq.num_computed_tokens
        seq.status = SequenceStatus.PREFILL

    def schedule(self) -> ScheduledStep:
        """The rows of the next step; empty if nothing is running."""
        for seq in self._entitled():
            sharing = seq.shares_with
            if sharing is not None and sharing.owner.num_computed_tokens >= sharing.num_tokens:
                self._begin_or_wait(seq)
            if seq.next_run_at == seq.num_computed_tokens:
                self._move(seq)
        step = ScheduledStep(does_more=self._has_moved)
        self._has_moved = False
        groups = self._turns.groups(list(self._entitled()))
        for group in groups:
            wanted = self.planner.wanted_rows(group, others_wait=len(groups) > 1)
            for seq, num_rows in self._claimed(wanted):
                step.add_known(seq, num_rows)
            if step.batch:
                step.adapters = group[0].adapters
                step.does_more |= self._turns.take(step.adapters)
                break
        step.num_scanned = self.planner.num_scanned(len(step.batch))
        return step

    def room_for_drafts(self, step: ScheduledStep) -> DraftRoom:
        """What the step has room for beside its rows."""
        decoding = [
            seq
            for i in step.logit_rows
            if (seq := self.running[i]).status is SequenceStatus.DECODE and not seq.is_repeatable
        ]
        return self.planner.room_for_drafts(step, decoding)

    def add_drafted(self, step: ScheduledStep, drafted: Mapping[int, tuple[int, ...]]) -> None:
        """Rows for tokens that may follow those of a sequence, as far as it may still
        go on.
        """
        depths = {i: min(len(tokens), self._max_depth(i)) for i, tokens in drafted.items()}
        if self._wants_equal_rows:
            depth = min((depths.get(i, 0) for i in step.computed), default=0)
            depths = dict.fromkeys(depths, depth) if depth else {}
        for request_id, depth in depths.items():
            step.add_drafted(self.running[request_id], drafted[request_id][:depth])
        if depths:
            self._cells.note_peak(len(step.batch))
            step.num_scanned = self.planner.num_scanned(len(step.batch))

    def _max_depth(self, request_id: int) -> int:
        seq = self.running[request_id]
        num_left = min(
            seq.max_new_tokens - seq.num_new_tokens, self.longest_request - len(seq.tokens)
        )
        most = max(num_left - 1, 0)  # the step brings one token more than are accepted
        return most if self._max_draft_depth is None else min(most, self._max_draft_depth)

    def _entitled(self) -> Iterator[Sequence]:
        """The running ones, the oldest first, but for those younger than one that was
        preempted: they come after it.
        """
        return takewhile(
            lambda seq: seq.status is not SequenceStatus.PREEMPTED, self.running.values()
        )

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
            self._cells.preempt(seq.admitted_slot, seq.tokens)
        else:
            self._cells.drop(seq.admitted_slot)
        seq.status = SequenceStatus.PREEMPTED
        seq.num_computed_tokens, seq.next_run_at = 0, None

    def _leave_prefix(self, seq: Sequence) -> None:
        """Its cells are a prefix for others from now on, where it leaves one."""
        self._note_exact(seq)
        if seq.uses_cache:
            self._cells.finish(
                seq.admitted_slot,
                seq.tokens,
                is_wanted=seq.keeps_prefix,
                num_exact=seq.num_exact_tokens,
            )
        else:
            self._cells.drop(seq.admitted_slot)

    def _resume(self, seq: Sequence) -> None:
        slot = seq.admitted_slot
        self._begin(seq, is_resumed=True)
        self._cells.forget_preempted(slot)
        seq.status = seq.status_of_start

    def _begin_or_wait(self, seq: Sequence) -> None:
        """Starts from the longest known prefix, unless a prompt in progress will soon
        know a longer one.
        """
        seq.shares_with = find_sharing(seq, self.running.values(), self._cells)
        if seq.shares_with is not None:
            seq.status = SequenceStatus.SHARING
            if self._cells.has_checkpoints:
                seq.shares_with.owner.places[seq.shares_with.num_tokens] = True
            return
        self._begin(seq, is_resumed=seq.was_suspended)
        seq.status = seq.status_of_start

    def _note_exact(self, seq: Sequence) -> None:
        """As long as it runs alone, whole blocks of its prompt are computed as they
        always are; an answer's tokens, one by one, are not as they would be in a prompt.
        """
        if seq.is_repeatable and not seq.scores_prompt:
            block_rows = self.planner.block_rows
            num_known = min(seq.num_computed_tokens, seq.num_prompt_tokens)
            seq.num_exact_tokens = num_known // block_rows * block_rows

    def _begin(self, seq: Sequence, *, is_resumed: bool) -> None:
        """Gives it the cells that are known for its tokens; when it goes on, they do not
        count as cached.
        """
        seq.was_interrupted |= is_resumed
        seq.num_computed_tokens = self._start(seq, is_resumed=is_resumed)
        if seq.uses_cache:
            self._place_checkpoints(seq)
        if not is_resumed:
            num_plain = self._cells.num_plain(seq.admitted_slot)
            seq.num_cached_tokens = seq.num_computed_tokens
            seq.num_moved_tokens = max(seq.num_computed_tokens - num_plain, 0)
        self._move(seq)

    def _place_checkpoints(self, seq: Sequence) -> None:
        """Beside those that were asked for, or the prompt's end; of one that is repeatable,
        where whole blocks of it end.
        """
        if not self._cells.has_checkpoints:
            return
        if not seq.places:
            seq.places[seq.num_prompt_tokens - 1] = False
        for at in self._cells.places(seq.tokens, seq.num_computed_tokens):
            seq.places[at] = True
        if seq.is_repeatable:
            block_rows = self.planner.block_rows
            seq.places = {at // block_rows * block_rows: of for at, of in seq.places.items()}

    def _move(self, seq: Sequence) -> None:
        """Moved cells for what follows the computed tokens, where it may have such, or
        how far it has to be computed until there are some.
        """
        seq.next_run_at = None
        while seq.min_moved_tokens and self._can_move:
            num_moved, seq.next_run_at = self._cells.move(
                seq.admitted_slot, seq.tokens, seq.num_computed_tokens, seq.min_moved_tokens
            )
            if not num_moved:
                return
            self._has_moved = True
            seq.num_computed_tokens += num_moved
            if not seq.was_interrupted:
                seq.num_cached_tokens += num_moved
                seq.num_moved_tokens += num_moved

    def _start(self, seq: Sequence, *, is_resumed: bool) -> int:
        if seq.is_repeatable:
            return self._cells.start_alone(
                seq.admitted_slot,
                seq.reusable_tokens,
                self.planner.block_rows,
                is_private=not seq.uses_cache,
            )
        return self._cells.start(
            seq.admitted_slot,
            seq.reusable_tokens,
            is_resumed=is_resumed,
            is_private=not seq.uses_cache,
            min_moved=seq.min_moved_tokens if self._can_move else 0,
        )

    def _release_waiters(self, owner: Sequence) -> None:
        """Those that wait for its prompt wait no longer: the first goes on from its
        cells, if they are still there.
        """
        for seq in self.running.values():
            if seq.shares_with and seq.shares_with.owner is owner:
                self._begin_or_wait(seq)
