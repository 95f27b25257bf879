"""Prefixes that stay in the KV cache although no running sequence
has them, and which goes first.

Knows neither running sequences nor how many cells may stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from appliance.engine.cache.host_prefixes import (
    HostPrefixes,
    SavedPrefix,
    has_moved,
    num_common,
)
from appliance.engine.cache.prefix_tree import PrefixTree
from appliance.engine.cost import StepCost
from appliance.engine.runner import Runner

MIN_KEPT_TOKENS = 16  # shorter prefixes cost less to compute than to look after
MIN_FILE_TOKENS = 256  # below that, computing again takes less than a second or two


@dataclass(eq=False)
class KeptPrefix:
    """The tokens of a request that has ended, under a sequence id of their own."""

    tokens: list[int]
    last_used_s: float
    num_uses: int
    # Its first tokens whose cells are the cache's lowest, in order, and were computed
    # as they always are.
    num_exact: int = 0
    is_written: bool = False  # handed out for a file; host memory may have no room to remember it


class KeptPrefixes:
    """Kept prefixes by sequence id.

    What goes from the cache is saved to host memory.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        tree: PrefixTree,
        host: HostPrefixes,
        cost: StepCost,
        clock: Callable[[], float],
        forget: Callable[[int], None],
    ) -> None:
        """`forget` takes all cells from a sequence id."""
        capabilities = runner.capabilities
        self._runner = runner
        self._tree = tree
        self._host = host
        self._cost = cost
        self._clock = clock
        self._forget = forget
        self._free_ids = list(range(capabilities.first_kept_id, capabilities.num_sequence_ids))
        self._kept: dict[int, KeptPrefix] = {}
        # What running sequences took over, by slot; it may be kept no longer.
        self._taken_over: dict[int, list[KeptPrefix]] = {}

    @property
    def has_ids(self) -> bool:
        """Whether there are sequence ids for kept prefixes at all, in use or free."""
        return bool(self._free_ids or self._kept)

    @property
    def saves(self) -> bool:
        """Whether host memory has room for anything at all: else saving would cost
        memory and time for nothing.
        """
        return self._host.max_bytes > 0

    def use(
        self, slot: int, sequence_ids: Iterable[int], num_tokens: int, *, is_resumed: bool
    ) -> None:
        """A slot's sequence took over its first `num_tokens` tokens from these ids: a use
        of the kept prefixes among them.

        It is none of a long prefix that a few tokens of it, such as a template's first
        ones, begin another prompt too.
        """
        used = self._taken_over.setdefault(slot, [])
        for sequence_id in sequence_ids:
            kept = self._kept.get(sequence_id)
            if kept is not None and num_tokens >= min(len(kept.tokens) // 2, MIN_FILE_TOKENS):
                kept.last_used_s = self._clock()
                kept.num_uses += not is_resumed
                used.append(kept)

    def num_uses_gone(self, slot: int) -> int:
        """How often what a running sequence took over had been used, if that is no longer
        kept for itself: else it would be forgotten.

        What is still kept counts its uses itself: they were of its tokens, not of all
        that came after them here.
        """
        kept = self._kept.values()
        gone = (each for each in self._taken_over.get(slot, ()) if each not in kept)
        return max((each.num_uses for each in gone), default=0)

    def left(self, slot: int) -> None:
        """The slot's sequence is over, or gave its cells away."""
        self._taken_over.pop(slot, None)

    def last_used(self) -> list[tuple[int, KeptPrefix]]:
        """All with their ids, the last used one first."""
        return sorted(self._kept.items(), key=lambda pair: pair[1].last_used_s, reverse=True)

    def id_of(self, kept: KeptPrefix) -> int | None:
        """None: it is gone."""
        return next((kept_id for kept_id, each in self._kept.items() if each is kept), None)

    def make_id_free(self) -> bool:
        """False if there is none to be had."""
        return bool(self._free_ids) or self.evict()

    def longest_exact(self, prompt: Seq[int], most: int) -> tuple[int, int | None]:
        """How many of a prompt's tokens, up to `most`, are some kept prefix's exact
        ones, and its id; None for none.
        """
        reach = (
            (num_common(kept.tokens, prompt, min(most, kept.num_exact)), kept_id)
            for kept_id, kept in self._kept.items()
            if kept.num_exact
        )
        return max(reach, default=(0, None))

    def keep(self, slot: int, tokens: list[int], num_uses: int, num_exact: int = 0) -> None:
        """Keeps a running sequence's first tokens; an id must be free."""
        kept_id = self._free_ids.pop()
        self._runner.copy_cells(slot, kept_id, len(tokens))
        self._tree.open(kept_id)
        self._tree.share(slot, kept_id, len(tokens))
        kept = self._kept[kept_id] = KeptPrefix(tokens, self._clock(), num_uses, num_exact)
        for inner in self._tree.inner_ids(kept_id):  # one id for the longest path is enough
            if inner in self._kept:
                kept.num_uses = max(kept.num_uses, self._kept[inner].num_uses)
                kept.num_exact = max(kept.num_exact, self._kept[inner].num_exact)
                self._give_up(inner)

    def evict(self) -> bool:
        """Gives up the prefix that is worth least; False if there is none."""
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

    def save_running(self, slot: int, tokens: list[int]) -> SavedPrefix | None:
        """Saves the cells that a running sequence of these tokens shares with nobody, as
        what it will go on from; None if that is not worth it, or there is no room.
        """
        num_unshared = self._tree.num_unshared_tokens(slot)
        if num_unshared < MIN_KEPT_TOKENS or not self.saves:
            return None
        first = first_saved(len(tokens) - num_unshared)
        data = self._runner.save_cells(slot, first, self._host.room_bytes)
        if data is None:
            return None
        saved = SavedPrefix(
            tokens=tokens, first=first, data=data, last_used_s=self._clock(), is_needed=True
        )
        return saved if self._host.add(saved) else None

    def expire(self, oldest_s: float) -> None:
        """Gives up what was last used before `oldest_s`."""
        for sequence_id in [i for i, kept in self._kept.items() if kept.last_used_s < oldest_s]:
            self._give_up(sequence_id)

    def next_for_disk(self) -> SavedPrefix | None:
        """A kept prefix worth a file, saved to host memory too: long, used again, not
        on disk yet.
        """
        for kept_id, kept in self._kept.items() if self.saves else ():
            num_tokens = len(kept.tokens)
            if kept.is_written or not kept.num_uses or num_tokens < MIN_FILE_TOKENS:
                continue
            if has_moved(kept.tokens):
                continue
            first = self._host.num_on_disk(kept.tokens)
            if num_tokens - first >= MIN_KEPT_TOKENS:
                kept.is_written = True
                data = self._runner.save_cells(kept_id, first, self._host.max_bytes)
                if data is None:
                    continue
                saved = _saved(kept, first, data)
                self._host.add(saved)
                return saved
        return None

    def copy_of(self, tokens: list[int], max_bytes: int) -> SavedPrefix | None:
        """All cells of a kept prefix that begins with these tokens; None for none."""
        for kept_id, kept in self._kept.items():
            if tokens and num_common(kept.tokens, tokens, len(tokens)) == len(tokens):
                data = self._runner.save_cells(kept_id, 0, max_bytes)
                return None if data is None else _saved(kept, 0, data)
        return None

    def give_up_all(self, tokens: list[int]) -> int:
        """Those that begin with these tokens; returns how many."""
        leaving = [
            kept_id
            for kept_id, kept in self._kept.items()
            if tokens and num_common(kept.tokens, tokens, len(tokens)) == len(tokens)
        ]
        for kept_id in leaving:
            self._give_up(kept_id)
        return len(leaving)

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

    def _save(self, kept_id: int, kept: KeptPrefix) -> None:
        """Saves the cells that giving up a kept prefix would free."""
        num_unshared = self._tree.num_unshared_tokens(kept_id)
        if num_unshared >= MIN_KEPT_TOKENS and self.saves:
            first = first_saved(len(kept.tokens) - num_unshared, is_exact=kept.num_exact > 0)
            data = self._runner.save_cells(kept_id, first, self._host.room_bytes)
            if data is not None:
                self._host.add(_saved(kept, first, data))

    def _give_up(self, kept_id: int) -> None:
        del self._kept[kept_id]
        self._forget(kept_id)
        self._free_ids.append(kept_id)


def first_saved(first_unshared: int, *, is_exact: bool = False) -> int:
    """The position from which a prefix is saved: some before its own first one, for who
    shares them may be gone when it is asked for, and so few would not be restored from
    elsewhere. None more where its cells are to lie again as they were computed.
    """
    return first_unshared if is_exact else max(first_unshared - MIN_KEPT_TOKENS, 0)


def _saved(kept: KeptPrefix, first: int, data: bytes) -> SavedPrefix:
    return SavedPrefix(
        tokens=kept.tokens,
        first=first,
        data=data,
        last_used_s=kept.last_used_s,
        num_uses=kept.num_uses,
        num_exact=kept.num_exact,
    )
