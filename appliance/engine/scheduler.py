"""Decides each step's rows: who is admitted, who decodes, how much of whose prompt is prefilled. Computes nothing.

Decode rows come first. Then as many prefill rows as the cost model expects to fit in the stall budget, so that no
running stream waits longer than `max_stall_ms` for somebody else's prompt; shared equally among the prompts in
progress, so that a short one does not wait for a long one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from appliance.engine.batch import Batch
from appliance.engine.cells import Cells
from appliance.engine.cost import StepCost
from appliance.engine.host_prefixes import num_common
from appliance.engine.runner import Capabilities
from appliance.engine.sequence import Sequence, Sharing, Status
from appliance.errors import PromptTooLong, QueueFull

_MAX_STEP_MS = 1000  # nobody decoding: cancelling, the heartbeat and the next arrival still never wait longer
_MIN_SHARED_ROWS = 16  # to compute fewer again costs no more than the additional step that waiting takes
_MIN_PREFILL_ROWS = 8  # a prompt always moves on, even where one step costs more than the budget


@dataclass(frozen=True)
class Limits:
    """`ctx` is the longest request in tokens (prompt and answer), `max_waiting_tokens` bounds the queue's prompts."""

    ctx: int
    max_waiting_tokens: int
    max_stall_ms: int


@dataclass
class Scheduled:
    """One step: the rows, and for each sequence whose next token is sampled the row that holds its logits."""

    batch: Batch = field(default_factory=Batch)
    computed: dict[int, int] = field(default_factory=dict)  # request id -> rows of it in the batch
    logit_rows: dict[int, int] = field(default_factory=dict)  # request id -> row index


class Scheduler:
    """Holds every unfinished sequence: waiting in arrival order, and running by request id in order of admission."""

    def __init__(self, capabilities: Capabilities, limits: Limits, cost: StepCost, cells: Cells) -> None:
        self._limits = limits
        self._cost = cost
        self._cells = cells
        self._max_rows = capabilities.max_rows
        self._free_slots = list(reversed(range(capabilities.num_slots)))
        self.longest_request = min(limits.ctx, capabilities.num_cells)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}

    @property
    def num_waiting_tokens(self) -> int:
        return sum(seq.num_prompt_tokens for seq in self.waiting)

    def add(self, seq: Sequence) -> None:
        """Queues a sequence. Raises `PromptTooLong` or `QueueFull`; then nothing is kept of it."""
        if seq.num_prompt_tokens >= self.longest_request:
            raise PromptTooLong.of(seq.num_prompt_tokens, self.longest_request - 1)
        num_waiting = self.num_waiting_tokens
        if self.waiting and num_waiting + seq.num_prompt_tokens > self._limits.max_waiting_tokens:
            raise QueueFull(
                f"{num_waiting} prompt tokens are waiting already; with this request's {seq.num_prompt_tokens} they "
                f"would be more than --max-waiting {self._limits.max_waiting_tokens}. Try again later."
            )
        seq.max_new_tokens = min(seq.max_new_tokens, self.longest_request - seq.num_prompt_tokens)
        self.waiting.append(seq)

    def admit(self) -> list[Sequence]:
        """Moves sequences from the queue into free slots, strictly in order of arrival, as far as cells allow."""
        self._cells.expire()
        admitted = []
        while self.waiting and self._free_slots and self._has_room(self.waiting[0]):
            seq = self.waiting.popleft()
            seq.slot = self._free_slots.pop()
            self._begin_or_wait(seq)
            self.running[seq.request_id] = seq
            has_room = self._cells.make_room(self._num_promised_cells)
            assert has_room
            admitted.append(seq)
        return admitted

    def remove(self, seq: Sequence, *, keep: bool = True) -> None:
        """Forgets a sequence, waiting or running: its slot is free again, its prefix is kept if its cells are sound."""
        if seq.status is Status.WAITING:
            self.waiting.remove(seq)
            seq.status = Status.FINISHED
            return
        assert seq.slot is not None
        del self.running[seq.request_id]
        has_cells = seq.status is not Status.SHARING
        seq.status = Status.FINISHED
        for heir in self._waiting_for(seq):  # while its cells are there: the first goes on from them
            self._begin_or_wait(heir)
        if has_cells and keep:
            self._cells.finish(seq.slot, seq.tokens)
        elif has_cells:
            self._cells.drop(seq.slot)
        self._free_slots.append(seq.slot)

    def schedule(self) -> Scheduled:
        """The rows of the next step; empty if nothing is running."""
        for seq in self.running.values():
            sharing = seq.shares_with
            if sharing is not None and sharing.owner.num_computed_tokens >= sharing.num_tokens:
                self._begin_or_wait(seq)
        step = Scheduled()
        decoding = [seq for seq in self.running.values() if seq.status is Status.DECODE]
        prefilling = [seq for seq in self.running.values() if seq.status is Status.PREFILL]
        for seq in decoding:
            _add_rows(step, seq, 1)
        if prefilling:
            for seq, share in _equal_shares(prefilling, self._num_prefill_rows(len(decoding))):
                _add_rows(step, seq, share)
        return step

    @property
    def _num_promised_cells(self) -> int:
        """Cells that running sequences may still come to need: they are never left without one."""
        return sum(seq.num_longest_cells - _num_settled(seq) for seq in self.running.values())

    def _has_room(self, seq: Sequence) -> bool:
        """Whether its longest answer fits beside those of the running ones, once kept prefixes have made room."""
        sharing = self._sharing(seq)
        num_settled = sharing.num_tokens if sharing else self._cells.num_resident(seq.tokens)
        num_new = seq.num_longest_cells - num_settled
        return self._cells.num_taken(seq.tokens) + self._num_promised_cells + num_new <= self._cells.num_cells

    def _begin_or_wait(self, seq: Sequence) -> None:
        """Starts from the longest known prefix, unless a prompt in progress will soon know a longer one."""
        assert seq.slot is not None
        seq.shares_with = self._sharing(seq)
        if seq.shares_with is not None:
            seq.status = Status.SHARING
            return
        seq.num_cached_tokens = seq.num_computed_tokens = self._cells.start(seq.slot, seq.tokens)
        seq.status = Status.PREFILL

    def _sharing(self, seq: Sequence) -> Sharing | None:
        """The prompt in progress worth waiting for: computing again what it will share costs more than a step."""
        num_known = self._cells.num_known(seq.tokens)
        best: Sharing | None = None
        for owner in self.running.values():
            if owner is seq:
                break  # only on earlier ones, so that nobody waits in a circle
            if owner.status in (Status.PREFILL, Status.SHARING):
                num_shared = num_common(owner.tokens, seq.tokens, len(seq.tokens) - 1)
                if num_shared > best.num_tokens if best else num_shared >= num_known + _MIN_SHARED_ROWS:
                    best = Sharing(owner, num_shared)
        return best

    def _waiting_for(self, owner: Sequence) -> list[Sequence]:
        return [seq for seq in self.running.values() if seq.shares_with and seq.shares_with.owner is owner]

    def _num_prefill_rows(self, num_decode_rows: int) -> int:
        budget_ms = self._limits.max_stall_ms if num_decode_rows else _MAX_STEP_MS
        num_rows = self._cost.rows_within(budget_ms, self._max_rows) - num_decode_rows
        return min(max(num_rows, _MIN_PREFILL_ROWS), self._max_rows - num_decode_rows)


def _num_settled(seq: Sequence) -> int:
    """Tokens whose cells are there, or promised to the sequence that it waits for."""
    return seq.shares_with.num_tokens if seq.shares_with else seq.num_computed_tokens


def _equal_shares(prefilling: Iterable[Sequence], num_rows: int) -> list[tuple[Sequence, int]]:
    """Splits rows equally; what a short prompt leaves over goes to the longer ones."""
    by_need = sorted(prefilling, key=lambda seq: seq.num_pending_tokens)
    shares = []
    for at, seq in enumerate(by_need):
        share = min(seq.num_pending_tokens, -(-num_rows // (len(by_need) - at)))
        num_rows -= share
        shares.append((seq, share))
    return shares


def _add_rows(step: Scheduled, seq: Sequence, num_rows: int) -> None:
    """Adds the next `num_rows` known tokens of `seq`; the one that completes them asks for logits."""
    assert seq.slot is not None
    if num_rows == 0:
        return
    first = seq.num_computed_tokens
    for position in range(first, first + num_rows):
        is_last = position == len(seq.tokens) - 1
        row = step.batch.add(seq.tokens[position], position, seq.slot, is_last)
        if is_last:
            step.logit_rows[seq.request_id] = row
    step.computed[seq.request_id] = num_rows
