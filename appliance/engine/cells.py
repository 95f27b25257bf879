"""The KV cells: which are in use, whose they are, which prefixes are kept and which go.

Knows no schedule and no step.

Running sequences have the ids 0 to slots - 1, as in the batch. A finished one's cells
stay as a kept prefix under an id beyond; a new sequence takes over the longest known
prefix of its prompt by sharing cells, kept or of a running one. A preempted one's cells
are in host memory, as far as it did not share them, until it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from appliance.engine.cost import StepCost
from appliance.engine.host_prefixes import HostPrefixes, SavedPrefix
from appliance.engine.prefix_tree import NO_MATCH, Match, PrefixTree
from appliance.engine.runner import Runner

_MIN_FILE_TOKENS = 256  # below that, computing again takes less than a second or two
# llama.cpp scans cells in blocks of so many: one idle cell may cost a whole block
_SCANNED_TOGETHER = 256
_MIN_KEPT_TOKENS = 16  # shorter prefixes cost less to compute than to look after


@dataclass(frozen=True)
class KeepPolicy:
    """How many cells may stay in use for prefixes that no running sequence has, and for
    how long unused.

    What has to go from the cache is saved to host memory, up to `max_host_bytes` in
    all. With `max_slowdown`, fewer cells stay beside running sequences where looking
    past so many would slow one of them by more than that share.
    """

    max_cells: int
    ttl_s: float
    max_host_bytes: int = 0
    max_slowdown: float | None = None


@dataclass(eq=False)
class _Kept:
    tokens: list[int]
    last_used_s: float
    num_uses: int
    is_written: bool = False  # handed out for a file; host memory may have no room to remember it


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
        self._clock = clock
        self._num_slots = capabilities.num_slots
        self._tree = PrefixTree()
        self._free_ids = list(range(capabilities.first_kept_id, capabilities.num_sequence_ids))
        self._kept: dict[int, _Kept] = {}
        self._host = HostPrefixes(policy.max_host_bytes)
        self._running: set[int] = set()
        self._private: set[int] = set()  # those of them that share with nobody
        # by running sequences; they may have left since
        self._taken_over: dict[int, list[_Kept]] = {}
        self._preempted: dict[int, SavedPrefix] = {}
        self._num_peak = 0
        self.num_cells = capabilities.num_cells

    @property
    def num_used(self) -> int:
        return self._tree.num_cells

    @property
    def num_scanned(self) -> int:
        """How far up cells may be in use, so how many a row has to look past.

        The most that were in use at once since there were none: llama.cpp does not tell
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
        spans = self._host.spans(prompt, num_resident, _MIN_KEPT_TOKENS) if self._can_share else []
        return spans[-1].last if spans else num_resident

    def num_taken(self, prompt: Seq[int]) -> int:
        """Cells of running sequences, counting the known prefix of a prompt as if it
        ran already.
        """
        return self._tree.num_cells_of(self._running, self._match(prompt))

    def start(
        self, slot: int, prompt: Seq[int], *, is_again: bool = False, is_private: bool = False
    ) -> int:
        """A new running sequence with the longest known prefix of its prompt; returns
        that prefix's tokens.

        `is_again`: the same request goes on, so what it takes over was not asked for a
        second time. Nor is it a use of a long prefix that a few tokens of it, such as a
        template's first ones, begin another prompt too. Nobody takes over anything from
        one that `is_private`.
        """
        self._tree.open(slot)
        self._running.add(slot)
        if is_private:
            self._private.add(slot)
        match = self._match(prompt)
        if match.source_id is not None:
            self._runner.copy_cells(match.source_id, slot, match.num_tokens)
            self._tree.share(match.source_id, slot, match.num_tokens)
            for sequence_id in (match.source_id, *self._tree.inner_ids(slot)):
                kept = self._kept.get(sequence_id)
                if kept is not None and match.num_tokens >= min(
                    len(kept.tokens) // 2, _MIN_FILE_TOKENS
                ):
                    kept.last_used_s = self._clock()
                    kept.num_uses += not is_again
                    self._taken_over.setdefault(slot, []).append(kept)
        # before it gets cells of its own: then these lie low, and fewer are scanned
        self._shrink_kept()
        return (
            self._restore(slot, prompt, match.num_tokens, int(not is_again))
            if self._can_share
            else 0
        )

    def grow(self, slot: int, tokens: Seq[int]) -> None:
        """The sequence got cells for the tokens that follow."""
        # A private one's tokens are in the tree as what no prompt contains.
        self._tree.extend(slot, [~token for token in tokens] if slot in self._private else tokens)
        self.note_peak(0)

    def note_peak(self, num_more: int) -> None:
        """So many cells more are in use for the time of a step."""
        self._num_peak = max(self._num_peak, self.num_used + num_more)

    def finish(self, slot: int, tokens: Seq[int], *, is_wanted: bool = False) -> None:
        """The sequence is over; its prefix is kept if that is worth it and nobody else
        has it anyway.

        `is_wanted`: as if it had been used again already.
        """
        num_tokens = self._tree.num_tokens(slot)
        known = (
            self._tree.match(tokens, num_tokens, ignoring=slot).num_tokens
            if self._can_share
            else num_tokens
        )
        if num_tokens >= max(_MIN_KEPT_TOKENS, known + 1) and self._make_id_free():
            self._keep(
                slot, list(tokens[:num_tokens]), max(int(is_wanted), self._num_uses_gone(slot))
            )
        self.drop(slot)

    def drop(self, slot: int) -> None:
        """The sequence is over, and what its own cells hold is worth nothing."""
        self._release(slot)
        self._shrink_kept()

    def preempt(self, slot: int, tokens: Seq[int]) -> None:
        """Takes a running sequence's cells; those that it shared with nobody go to host
        memory, if there is room.

        `start` with the same tokens goes on from them. What could not be saved is
        computed again then.
        """
        num_tokens, num_unshared = self._tree.num_tokens(slot), self._tree.num_unshared_tokens(slot)
        if num_unshared >= _MIN_KEPT_TOKENS and self._can_share and self._saves:
            first = num_tokens - num_unshared
            data = self._runner.save_cells(slot, first, self._host.room_bytes)
            if data is not None:
                saved = SavedPrefix(
                    tokens=list(tokens[:num_tokens]),
                    first=first,
                    data=data,
                    last_used_s=self._clock(),
                    is_needed=True,
                )
                if self._host.add(saved):
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
        """Gives up kept prefixes, least recently used first, until so many cells are
        free; False if they never are.
        """
        while self.num_cells - self.num_used < num_cells:
            if not self._evict():
                return False
        return True

    def expire(self) -> None:
        """Gives up the prefixes that nobody used for the policy's time."""
        oldest_s = self._clock() - self._policy.ttl_s
        self._host.expire(oldest_s)
        for sequence_id in [i for i, kept in self._kept.items() if kept.last_used_s < oldest_s]:
            self._give_up(sequence_id)

    def _match(self, prompt: Seq[int]) -> Match:
        """The prompt's last token is always computed, for its logits are wanted."""
        return self._tree.match(prompt, len(prompt) - 1) if self._can_share else NO_MATCH

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
        saved = self._host.worth_a_file(_MIN_FILE_TOKENS)
        if saved is not None:
            return saved
        for kept_id, kept in self._kept.items() if self._saves else ():
            num_tokens = len(kept.tokens)
            if kept.is_written or not kept.num_uses or num_tokens < _MIN_FILE_TOKENS:
                continue
            first = self._host.num_on_disk(kept.tokens)
            if num_tokens - first >= _MIN_KEPT_TOKENS:
                kept.is_written = True
                data = self._runner.save_cells(kept_id, first, self._host.max_bytes)
                if data is None:
                    continue
                saved = SavedPrefix(
                    tokens=kept.tokens,
                    first=first,
                    data=data,
                    last_used_s=kept.last_used_s,
                    num_uses=kept.num_uses,
                )
                self._host.add(saved)
                return saved
        return None

    @property
    def _saves(self) -> bool:
        """Whether host memory has room for anything at all: else saving would cost
        memory and time for nothing.
        """
        return self._host.max_bytes > 0

    @property
    def _can_share(self) -> bool:
        return bool(self._free_ids or self._kept)

    def _restore(self, slot: int, prompt: Seq[int], num_resident: int, num_uses: int) -> int:
        """Continues a sequence's prefix from host memory as far as that goes; returns
        its tokens then.

        `num_uses`: how many uses of what it takes over that counts for.
        """
        known = num_resident
        for span in self._host.spans(prompt, num_resident, _MIN_KEPT_TOKENS):
            span.saved.last_used_s = self._clock()
            span.saved.num_uses += num_uses
            if not self.make_room(span.saved.num_cells):
                break
            if not self._runner.load_cells(slot, span.saved.data, span.first, span.last):
                self._host.remove(span.saved)  # it will not be accepted the next time either
                break
            self.grow(slot, prompt[span.first : span.last])
            known = span.last
        return known

    def _keep(self, slot: int, tokens: list[int], num_uses: int) -> None:
        kept_id = self._free_ids.pop()
        self._runner.copy_cells(slot, kept_id, len(tokens))
        self._tree.open(kept_id)
        self._tree.share(slot, kept_id, len(tokens))
        kept = self._kept[kept_id] = _Kept(tokens, self._clock(), num_uses)
        for inner in self._tree.inner_ids(kept_id):  # one id for the longest path is enough
            if inner in self._kept:
                kept.num_uses = max(kept.num_uses, self._kept[inner].num_uses)
                self._give_up(inner)

    def _num_uses_gone(self, slot: int) -> int:
        """How often what it took over had been used, if that is no longer kept for
        itself: else it would be forgotten.

        What is still kept counts its uses itself: they were of its tokens, not of all
        that came after them here.
        """
        gone = (kept for kept in self._taken_over.get(slot, ()) if kept not in self._kept.values())
        return max((kept.num_uses for kept in gone), default=0)

    def _make_id_free(self) -> bool:
        return bool(self._free_ids) or self._evict()

    def _shrink_kept(self) -> None:
        most = self._policy.max_cells
        if self._policy.max_slowdown is not None and self._running:
            most = self._cost.idle_cells_within(self._policy.max_slowdown, most)
            num_idle = self.num_scanned - self._tree.num_cells_of(self._running)
            if most < _SCANNED_TOGETHER or num_idle > most:
                most = 0  # any of those that would be left may lie above all others
        while self.num_kept > most and self._evict():
            pass

    def _evict(self) -> bool:
        if not self._kept:
            return False
        shallow_ms, deep_ms = self._cost.prefill_ms(0, 64), self._cost.prefill_ms(1000, 1064)
        cost_per_1000_cells = max(deep_ms / shallow_ms - 1, 0.0) if shallow_ms > 0 else 0.0
        kept_id = min(
            self._kept, key=lambda sequence_id: self._worth(sequence_id, cost_per_1000_cells)
        )
        self._save(kept_id, self._kept[kept_id])
        self._give_up(kept_id)
        return True

    def _worth(self, kept_id: int, cost_per_1000_cells: float) -> float:
        """What a freed cell would cost to compute again, weighed by how soon it may be
        asked for again.

        Cells deep in a prompt cost more than those at its beginning, for they look at
        all that come before.
        """
        kept = self._kept[kept_id]
        depth = len(kept.tokens) - self._tree.num_unshared_tokens(kept_id) / 2
        unused_s = self._clock() - kept.last_used_s
        return (1 + cost_per_1000_cells * depth / 1000) * (1 + kept.num_uses) / (1 + unused_s)

    def _save(self, kept_id: int, kept: _Kept) -> None:
        """Saves the cells that giving up a kept prefix would free."""
        num_unshared = self._tree.num_unshared_tokens(kept_id)
        if num_unshared >= _MIN_KEPT_TOKENS and self._saves:
            first = len(kept.tokens) - num_unshared
            data = self._runner.save_cells(kept_id, first, self._host.room_bytes)
            if data is not None:
                self._host.add(
                    SavedPrefix(
                        tokens=kept.tokens,
                        first=first,
                        data=data,
                        last_used_s=kept.last_used_s,
                        num_uses=kept.num_uses,
                    )
                )

    def _give_up(self, kept_id: int) -> None:
        del self._kept[kept_id]
        self._forget(kept_id)
        self._free_ids.append(kept_id)

    def _release(self, slot: int) -> None:
        self._running.discard(slot)
        self._private.discard(slot)
        self._taken_over.pop(slot, None)
        self._forget(slot)

    def _forget(self, sequence_id: int) -> None:
        self._tree.close(sequence_id)
        self._runner.remove_cells(sequence_id)
        if self.num_used == 0:
            self._num_peak = 0
