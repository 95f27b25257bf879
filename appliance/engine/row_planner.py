"""How many rows a step is to have, and how many of them are of whose prompt.

Knows what rows cost; admits nobody and frees no cells.

Decode rows come first. Then as many prefill rows as the cost model chooses within the
stall budget, so that no running stream waits longer than `max_stall_ms` for somebody
else's prompt; of several prompts in progress the shortest come first, so that a short
one does not wait for a long one, but the oldest always has its share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from appliance.engine.cache.cells import Cells
from appliance.engine.cost import StepCost, StepShape
from appliance.engine.drafting.drafter import DraftRoom
from appliance.engine.limits import Limits
from appliance.engine.runner import Capabilities
from appliance.engine.sequence import Sequence, SequenceStatus
from appliance.engine.step import ScheduledStep

# A step while nobody decodes: cancelling, the heartbeat and the next arrival never wait
# longer. But it has so many rows where a single one takes so long that prompts would
# never end.
_MAX_LONE_STEP_MS = 1000
_MIN_LONE_ROWS = 10
_MIN_BLOCK_ROWS = 8
_MIN_STALL_STEPS = 1.5  # a budget below so many decode steps could not be kept whatever is computed
_SCAN_PAD = 256  # llama.cpp scans cells in blocks of so many


class RowPlanner:
    """Plans rows by the cost model, within the limits and the stall budget."""

    def __init__(
        self, capabilities: Capabilities, limits: Limits, cost: StepCost, cells: Cells
    ) -> None:
        self._capabilities = capabilities
        self._limits = limits
        self._cost = cost
        self._cells = cells
        self.duty = 1.0  # the share of time in which steps are computed
        self._others_wait = False
        self._num_turns = 0  # of those that decode and of prompts, where these take turns

    @cached_property
    def block_rows(self) -> int:
        """Where an answer is to be the same each time, a step computes whole blocks of
        the prompt, so that no row is once computed beside many, once beside few.

        Decided once, when first asked: small enough to be computed in about the time
        that others may have to wait.
        """
        num_rows = min(self._capabilities.block_rows, self._capabilities.max_rows)
        while num_rows > _MIN_BLOCK_ROWS:
            block_ms = self._cost.estimate_ms(StepShape(num_rows, num_rows))
            if block_ms is None or block_ms <= 2 * _MAX_LONE_STEP_MS:
                break
            num_rows //= 2
        return num_rows

    def wanted_rows(
        self, entitled: list[Sequence], *, others_wait: bool = False
    ) -> dict[Sequence, int]:
        """How many rows each sequence is to have, those that decode first. `others_wait`:
        for the end of the step, to be computed in one of their own.
        """
        self._others_wait = others_wait
        wanted = {seq: 1 for seq in entitled if seq.status is SequenceStatus.DECODE}
        prefilling = [seq for seq in entitled if seq.status is SequenceStatus.PREFILL]
        if prefilling and self._capabilities.wants_equal_rows:
            return self._rows_of_one_kind(wanted, prefilling)
        if prefilling:
            num_rows = self._num_prefill_rows(list(wanted), prefilling)
            if prefilling[0].is_repeatable:  # and nobody is beside it
                num_rows = self._whole_blocks(prefilling[0], num_rows)
            wanted.update(_shares(prefilling, num_rows))
            self._bound_scored(wanted, len(entitled))
        return wanted

    def _rows_of_one_kind(
        self, decoding: dict[Sequence, int], prefilling: list[Sequence]
    ) -> dict[Sequence, int]:
        """Those that decode, and rows of one prompt, in turns: computed in one step, they
        would be several passes all the same, and those that decode would wait for them.

        Of several prompts, the oldest and the one that is soonest done take turns too.
        """
        self._num_turns += 1
        if decoding and self._num_turns % 2:
            return decoding
        soonest = min(prefilling, key=lambda seq: seq.num_tokens_ahead)
        seq = prefilling[0] if self._num_turns // 2 % 2 else soonest
        num_rows = self._num_prefill_rows(list(decoding), [seq])
        if seq.is_repeatable:
            num_rows = self._whole_blocks(seq, num_rows)
        wanted = {seq: min(num_rows, seq.num_tokens_ahead)}
        self._bound_scored(wanted, len(decoding) + len(prefilling))
        return wanted

    def room_for_drafts(self, step: ScheduledStep, decoding: list[Sequence]) -> DraftRoom:
        """Drafted tokens get cells that are free anyway: for them nothing is given up,
        nor anybody preempted.
        """
        num_rows = len(step.batch)
        num_free = min(self._cells.num_free, self._max_rows(len(decoding))) - num_rows
        max_logit_rows = self._capabilities.max_logit_rows - step.num_logit_rows
        most_rows = min(num_free, self._capabilities.max_draft_rows, max_logit_rows)
        max_depth = self._capabilities.max_draft_depth
        return DraftRoom(
            sequences=decoding,
            num_rows=num_rows,
            most_rows=most_rows,
            most_depth=most_rows if max_depth is None else min(most_rows, max_depth),
            shape=self._drafted_shapes(step, decoding),
            wants_equal_rows=self._capabilities.wants_equal_rows,
        )

    def num_scanned(self, num_rows: int) -> int:
        """How many cells each row of a step looks at or past."""
        num_cells = max(self._cells.num_scanned, self._cells.num_used + num_rows)
        return -(-num_cells // _SCAN_PAD) * _SCAN_PAD

    def _drafted_shapes(
        self, step: ScheduledStep, decoding: list[Sequence]
    ) -> Callable[[int | None], StepShape]:
        num_own = 0

        def shape(num_drafted: int | None) -> StepShape:
            nonlocal num_own
            # when first asked: mostly nobody does
            num_own = num_own or sum(len(seq.tokens) for seq in decoding)
            if num_drafted is None:
                return self._cost.shape(len(decoding), num_own, self.num_scanned(len(decoding)))
            num_rows = len(step.batch) + num_drafted
            num_attended = step.num_attended + num_drafted * num_own // len(decoding)
            return self._cost.shape(num_rows, num_attended, self.num_scanned(num_rows))

        return shape

    def _whole_blocks(self, seq: Sequence, num_rows: int) -> int:
        """The rest of a prompt has a step of its own, whatever else was to be computed."""
        block_rows, num_pending = self.block_rows, seq.num_pending_tokens
        # the bound on logits cuts a prompt that is scored, always at the same places
        if num_pending <= block_rows or seq.has_unscored_tokens:
            return min(num_pending, block_rows)
        num_rows = min(num_rows, num_pending) // block_rows * block_rows
        return min(max(num_rows, block_rows), self._max_rows(0))

    def _bound_scored(self, wanted: dict[Sequence, int], num_running: int) -> None:
        """Memory was planned for logits of so many rows: prompts that are scored share
        what the others may not want.
        """
        scored = [seq for seq in wanted if seq.has_unscored_tokens]
        for seq in scored:
            num_left = self._capabilities.max_logit_rows - num_running
            wanted[seq] = min(wanted[seq], 1 + num_left // len(scored))

    def _num_prefill_rows(self, decoding: list[Sequence], prefilling: list[Sequence]) -> int:
        """How many prompt rows to compute beside the decoding sequences' rows."""
        num_decode_rows = len(decoding)
        num_attended = sum(len(seq.tokens) for seq in decoding)
        first = sum(seq.num_computed_tokens for seq in prefilling) / len(prefilling)

        def shape(num_rows: int) -> StepShape:
            num_prefill_rows = num_rows - num_decode_rows
            num_own = int(num_prefill_rows * (first + num_prefill_rows / len(prefilling) / 2))
            return self._cost.shape(num_rows, num_attended + num_own, self.num_scanned(num_rows))

        one_row_ms = self._cost.estimate_ms(StepShape(1, first)) or 0.0
        # A rest follows each step, so that all together is what somebody waits.
        budget_ms = max(_MAX_LONE_STEP_MS * self.duty, _MIN_LONE_ROWS * one_row_ms)
        if self._others_wait:
            budget_ms = self._limits.max_stall_ms * self.duty
        if decoding:
            decoding_alone = self._cost.shape(
                num_decode_rows, num_attended, self.num_scanned(num_decode_rows)
            )
            decode_ms = self._cost.estimate_ms(decoding_alone) or 0.0
            budget_ms = max(self._limits.max_stall_ms * self.duty, _MIN_STALL_STEPS * decode_ms)
        num_pending = sum(seq.num_tokens_ahead for seq in prefilling)
        return self._cost.best_rows(
            num_others=num_decode_rows,
            num_pending=num_pending,
            most=self._max_rows(num_decode_rows),
            budget_ms=budget_ms,
            shape=shape,
            # a burst: more people wait for their first token than for their next
            is_for_prompts=len(prefilling) > num_decode_rows,
        )

    def _max_rows(self, num_decode_rows: int) -> int:
        """Of a step, one of them for a prompt;
        decoding is never held up by `max_row_cells`.
        """
        max_rows, max_row_cells = self._capabilities.max_rows, self._limits.max_row_cells
        if max_row_cells is None:
            return max_rows
        most = max_row_cells // self.num_scanned(num_decode_rows + 1)
        most = max_row_cells // self.num_scanned(min(most, max_rows))
        return min(max(most, num_decode_rows + 1), max_rows)


def _shares(prefilling: list[Sequence], num_rows: int) -> dict[Sequence, int]:
    """Splits rows: the oldest gets an equal share, so that it moves on whatever comes;
    then the shortest rest first.

    So short prompts do not wait for long ones, and of several long ones the first is
    done early instead of all late.
    """
    oldest = prefilling[0]
    shares = {oldest: min(oldest.num_tokens_ahead, -(-num_rows // len(prefilling)))}
    num_left = num_rows - shares[oldest]
    for seq in sorted(prefilling, key=lambda seq: seq.num_tokens_ahead):
        num_more = min(seq.num_tokens_ahead - shares.get(seq, 0), num_left)
        shares[seq] = shares.get(seq, 0) + num_more
        num_left -= num_more
    return {seq: share for seq, share in shares.items() if share}
