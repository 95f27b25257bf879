"""The KV cells: which are in use, whose they are, which prefixes are kept and which go.

Knows no schedule and no step.

Running sequences have the ids 0 to slots - 1, as in the batch. A finished one's cells
stay as a kept prefix under an id beyond; a new sequence takes over the longest known
prefix of its prompt by sharing cells, kept or of a running one. A preempted one's cells
are in host memory, as far as it did not share them, until it goes on. Where sequences
cannot share cells, `Checkpoints` are all that is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from appliance.engine.cache.checkpoints import Checkpoints
from appliance.engine.cache.host_prefixes import HostPrefixes, SavedPrefix, SavedSpan
from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.cache.kept_prefixes import (
    MIN_FILE_TOKENS,
    MIN_KEPT_TOKENS,
    KeptPrefixes,
)
from appliance.engine.cache.moved_cells import MovedCells, hide
from appliance.engine.cache.prefix_tree import NO_MATCH, Match, PrefixTree
from appliance.engine.cache.slot_prefixes import SlotPrefixes
from appliance.engine.cost import StepCost
from appliance.engine.runner import Runner

# llama.cpp scans cells in blocks of so many: one idle cell may cost a whole block
_SCANNED_TOGETHER = 256


class Cells:
    """All KV cells of one runner.

    Exact: `num_used` is llama.cpp's own count (in its log, `used =`).
    """

    def __init__(
        self, runner: Runner, policy: KeepPolicy, cost: StepCost, clock: Callable[[], float]
    ) -> None:
        capabilities = runner.capabilities
        self._runner = runner
        self._policy = policy
        self._cost = cost
        self.clock = clock
        self._tree = PrefixTree()
        self._host = HostPrefixes(policy.max_host_bytes)
        self._checkpoints: Checkpoints | None = None
        if capabilities.keeps_states and policy.max_host_bytes > 0:
            self._host = self._checkpoints = Checkpoints(runner, policy.max_host_bytes, clock)
        self._kept = KeptPrefixes(
            runner, tree=self._tree, host=self._host, cost=cost, clock=clock, forget=self._forget
        )
        self._moved = MovedCells(runner, self._kept, self._host)
        self.left = SlotPrefixes(capabilities.num_slots, self._kept, self._host)
        self._running: set[int] = set()
        self._private: set[int] = set()  # those of them that share with nobody
        self._preempted: dict[int, SavedPrefix] = {}
        self._num_peak = 0
        self.num_cells = capabilities.num_cells

    @property
    def num_used(self) -> int:
        return self._tree.num_cells

    @property
    def num_scanned(self) -> int:
        """How far up cells may be in use, so how many a row has to look past.

        The most that were in use at once since there were none: llama.cpp does not say
        which cells it takes, but it takes low ones first, more or less. Cells that are
        freed lie anywhere, so it does not fall before the last has gone.
        """
        return self._num_peak

    @property
    def num_kept(self) -> int:
        """Cells that only kept prefixes have."""
        return self._tree.num_cells - self._tree.num_cells_of(self._running)

    @property
    def num_host_bytes(self) -> int:
        """What saved prefixes take of host memory."""
        return self._host.num_bytes

    @property
    def num_free(self) -> int:
        return self.num_cells - self._tree.num_cells

    def num_unshared(self, slot: int) -> int:
        """How many cells would be free without this running sequence."""
        return self._tree.num_unshared_tokens(slot) if slot in self._running else 0

    def num_resident(self, prompt: Seq[int]) -> int:
        """How many tokens of a prompt have cells."""
        return self._match(prompt).num_tokens

    def num_known(self, prompt: Seq[int]) -> int:
        """How many tokens of a prompt need not be computed: those that have cells, or
        can be restored.
        """
        num_resident = self.num_resident(prompt)
        spans = self._spans(prompt, num_resident)
        return spans[-1].last if spans else num_resident

    def num_taken(self, prompt: Seq[int]) -> int:
        """Cells of running sequences, counting the known prefix of a prompt as if it
        ran already.
        """
        return self._tree.num_cells_of(self._running, self._match(prompt))

    def start(
        self,
        slot: int,
        prompt: list[int],
        *,
        is_resumed: bool = False,
        is_private: bool = False,
        min_moved: int = 0,
    ) -> int:
        """A new running sequence with the longest known prefix of its prompt; returns
        that prefix's tokens.

        `is_resumed`: the same request goes on, so what it takes over was not asked for
        a second time. Nobody takes over anything from one that `is_private`.
        `min_moved`: moved cells will do where they are so many more; 0: they never do.
        """
        self._open(slot, is_private=is_private)
        match = self._match(prompt)
        if min_moved and self._can_share:
            num_least = self.num_known(prompt) + min_moved
            match = self._moved.prefix(slot, prompt, num_least) or match
        if match.source_id is not None:
            self._take_over(slot, match.source_id, match.num_tokens, is_resumed=is_resumed)
        # before it gets cells of its own: then these lie low, and fewer are scanned
        self._shrink_kept()
        spans = self._spans(prompt, match.num_tokens)
        return self._restore(slot, prompt, spans, match.num_tokens, int(not is_resumed))

    def start_alone(self, slot: int, prompt: Seq[int], block_rows: int, *, is_private: bool) -> int:
        """As `start`, for a sequence that nobody runs beside: its cells are the lowest
        of the cache, in order, so that each sum over them is the same each time.

        It takes over whole blocks only, which were computed so too. All others' kept
        prefixes leave for host memory.
        """
        assert not self._running
        self._open(slot, is_private=is_private)
        most = (len(prompt) - 1) // block_rows * block_rows if self._can_share else 0
        num_known, kept_id = self._kept.longest_exact(prompt, most)
        num_known = num_known // block_rows * block_rows
        if kept_id is not None and num_known:
            self._take_over(slot, kept_id, num_known, is_resumed=False)
        while self._kept.evict():
            pass
        self._num_peak = self.num_used
        if self._checkpoints is not None:
            spans = self._checkpoints.spans_of(prompt, is_exact=True)
        else:
            spans = self._host.exact_spans(prompt, num_known, most, block_rows)
        return self._restore(slot, prompt, spans, num_known)

    def move(
        self, slot: int, prompt: list[int], num_known: int, min_tokens: int
    ) -> tuple[int, int | None]:
        """Gives a sequence that has its first `num_known` tokens moved copies of the cells
        of what follows, as far as at least `min_tokens` equal ones in a row are known.

        Returns how many tokens these are, and where the next such run begins that the
        sequence has to be computed up to; None for none.
        """
        for _ in range(2):  # making room may move the source to host memory
            found = self._moved.next_run(prompt, num_known, min_tokens)
            if found is None or found.run.target > num_known:
                return 0, None if found is None else found.run.target
            if not self.make_room(found.num_cells):
                break
            if self._moved.take(slot, found, self.clock()):
                self.grow(slot, prompt[num_known : num_known + found.run.num_tokens])
                return found.run.num_tokens, None
        return 0, None

    @property
    def has_checkpoints(self) -> bool:
        """Whether sequences go on from where others were saved, instead of sharing cells."""
        return self._checkpoints is not None

    @property
    def can_share(self) -> bool:
        """Whether one sequence can go on from what another one has computed."""
        return self._can_share or self.has_checkpoints

    def places(self, prompt: list[int], num_known: int) -> list[int]:
        """After how many tokens of a prompt `checkpoint` is worth it."""
        return [] if self._checkpoints is None else self._checkpoints.places(prompt, num_known)

    def checkpoint(self, slot: int, tokens: list[int], *, is_branch: bool, is_exact: bool) -> None:
        """A running sequence has computed just these tokens, and others are expected to
        go on from there: several, if it is a branch.
        """
        if self._checkpoints is not None:
            num_exact = len(tokens) if is_exact else 0
            self._checkpoints.take(slot, tokens, is_branch=is_branch, num_exact=num_exact)

    def num_plain(self, slot: int) -> int:
        """How many of a sequence's first cells others may share, at most: all before the
        first moved one.
        """
        return self._moved.num_plain(slot)

    def grow(self, slot: int, tokens: Seq[int]) -> None:
        """The sequence got cells for the tokens that follow."""
        # A private one's tokens are in the tree as what no prompt contains.
        if slot in self._private:
            tokens = hide(tokens)
        elif slot in self._moved:
            tokens = self._moved.hidden(slot, tokens, self._tree.num_tokens(slot))
        self._tree.extend(slot, tokens)
        self.note_peak(0)

    def note_peak(self, num_more: int) -> None:
        """So many cells more are in use for the time of a step."""
        self._num_peak = max(self._num_peak, self.num_used + num_more)

    def finish(
        self, slot: int, tokens: Seq[int], *, is_wanted: bool = False, num_exact: int = 0
    ) -> None:
        """The sequence is over; its prefix is kept if that is worth it and nobody else
        has it anyway.

        `is_wanted`: as if it had been used again already. `num_exact`: how many of its
        first tokens were computed as they always are, from `start_alone` on.
        """
        num_tokens = self._tree.num_tokens(slot)
        tokens = self._moved.hidden(slot, tokens[:num_tokens])
        self.left.note(slot, tokens)
        if self._checkpoints is not None:
            self._checkpoints.take(slot, tokens, num_uses=int(is_wanted))
        known = (
            self._tree.match(tokens, num_tokens, ignoring=slot).num_tokens
            if self._can_share
            else num_tokens
        )
        if num_tokens >= max(MIN_KEPT_TOKENS, known + 1) and self._kept.make_id_free():
            num_uses = max(int(is_wanted), self._kept.num_uses_gone(slot))
            self._kept.keep(slot, tokens, num_uses, num_exact)
        self.drop(slot)

    def drop(self, slot: int) -> None:
        """The sequence is over, and what its own cells hold is worth nothing."""
        self._release(slot)
        self._shrink_kept()

    def preempt(self, slot: int, tokens: Seq[int]) -> None:
        """Takes a running sequence's cells; those that it shared with nobody go to host
        memory, if there is room.

        `start` with the same tokens goes on from them. What could not be saved is
        computed again then, and so are moved ones and those behind them.
        """
        known = list(tokens[: self._tree.num_tokens(slot)])
        saved = None
        if self._checkpoints is not None:
            saved = self._checkpoints.take(slot, known, is_needed=True)
        elif self._can_share and slot not in self._moved:
            saved = self._kept.save_running(slot, known)
        if saved is not None:
            self._preempted[slot] = saved
        self._release(slot)

    def forget_preempted(self, slot: int) -> None:
        """The preempted sequence goes on, or never will: its saved cells are a prefix
        like others.
        """
        saved = self._preempted.pop(slot, None)
        if saved is not None:
            saved.is_needed = False
            # which may have been lowered while it was needed
            self._host.bound(self._host.max_bytes)

    def make_room(self, num_cells: int) -> bool:
        """Gives up kept prefixes, those worth least first, until so many cells are
        free; False if they never are.
        """
        while self.num_cells - self.num_used < num_cells:
            if not self._kept.evict():
                return False
        return True

    def expire(self) -> None:
        """Gives up the prefixes that nobody used for the policy's time."""
        oldest_s = self.clock() - self._policy.ttl_s
        self._host.expire(oldest_s)
        self._kept.expire(oldest_s)

    def bound_host(self, max_bytes: int | None) -> None:
        """Saved prefixes take no more than this from now on, never more than the
        policy's; None: as much as that.
        """
        most = self._policy.max_host_bytes
        self._host.bound(most if max_bytes is None else min(max_bytes, most))

    def take_back(self, saved: SavedPrefix) -> None:
        """A prefix that was saved in an earlier life."""
        self._host.add(saved)

    def next_for_disk(self) -> SavedPrefix | None:
        """A prefix worth a file: long, used again, not on disk yet.

        The caller writes it and says so in `on_disk`.
        """
        return self._host.worth_a_file(MIN_FILE_TOKENS) or self._kept.next_for_disk()

    @property
    def _can_share(self) -> bool:
        return self._kept.has_ids

    def _spans(self, prompt: Seq[int], num_resident: int) -> list[SavedSpan]:
        """What continues the first tokens of a prompt from host memory."""
        if self._checkpoints is not None:
            return self._checkpoints.spans_of(prompt)
        shares = self._can_share
        return self._host.spans(prompt, num_resident, MIN_KEPT_TOKENS) if shares else []

    def _match(self, prompt: Seq[int]) -> Match:
        """The prompt's last token is always computed, for its logits are wanted."""
        return self._tree.match(prompt, len(prompt) - 1) if self._can_share else NO_MATCH

    def _open(self, slot: int, *, is_private: bool) -> None:
        self._tree.open(slot)
        self._running.add(slot)
        if is_private:
            self._private.add(slot)

    def _take_over(self, slot: int, source_id: int, num_tokens: int, *, is_resumed: bool) -> None:
        """Gives a new sequence the first cells of another one."""
        self._runner.copy_cells(source_id, slot, num_tokens)
        self._tree.share(source_id, slot, num_tokens)
        sequence_ids = (source_id, *self._tree.inner_ids(slot))
        self._kept.use(slot, sequence_ids, num_tokens, is_resumed=is_resumed)

    def _restore(
        self,
        slot: int,
        prompt: Seq[int],
        spans: list[SavedSpan],
        num_resident: int,
        num_uses: int = 1,
    ) -> int:
        """Continues a sequence's prefix from host memory as far as that goes; returns
        its tokens then.

        `num_uses`: how many uses of what it takes over that counts for.
        """
        known = num_resident
        for span in spans:
            span.saved.last_used_s = self.clock()
            span.saved.num_uses += num_uses
            if not self.make_room(span.saved.num_cells):
                break
            if not self._runner.load_cells(slot, span.saved.data, span.first, span.last):
                if self._checkpoints is None:  # else there may be room for it the next time
                    self._host.remove(span.saved)
                break
            if self._checkpoints is not None:
                self._checkpoints.went_on(slot, span.saved)
            self.grow(slot, prompt[span.first : span.last])
            known = span.last
        return known

    def _shrink_kept(self) -> None:
        most = self._policy.max_cells
        if self._policy.max_slowdown is not None and self._running:
            most = self._cost.idle_cells_within(self._policy.max_slowdown, most)
            num_idle = self.num_scanned - self._tree.num_cells_of(self._running)
            if most < _SCANNED_TOGETHER or num_idle > most:
                most = 0  # any of those that would be left may lie above all others
        while self.num_kept > most and self._kept.evict():
            pass

    def _release(self, slot: int) -> None:
        self._running.discard(slot)
        self._private.discard(slot)
        self._moved.forget(slot)
        if self._checkpoints is not None:
            self._checkpoints.left(slot)
        self._kept.left(slot)
        self._forget(slot)

    def _forget(self, sequence_id: int) -> None:
        self._tree.close(sequence_id)
        self._runner.remove_cells(sequence_id)
        if self.num_used == 0:
            self._num_peak = 0
