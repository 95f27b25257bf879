"""The KV cells: which are in use, whose they are, which prefixes are kept and which go. Knows no schedule and no step.

Running sequences have the ids 0 to slots - 1, as in the batch. A finished one's cells stay as a kept prefix under an id
beyond; a new sequence takes over the longest known prefix of its prompt by sharing cells, kept or of a running one.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from appliance.engine.prefix_tree import NO_MATCH, Match, PrefixTree
from appliance.engine.runner import Runner

_MIN_KEPT_TOKENS = 16  # shorter prefixes cost less to compute than to look after


@dataclass(frozen=True)
class KeepPolicy:
    """How many cells may stay in use for prefixes that no running sequence has, and for how long unused."""

    max_cells: int
    ttl_s: float


@dataclass
class _Kept:
    last_used_s: float


class Cells:
    """All KV cells of one runner. Exact: `num_used` is llama.cpp's own count (in its log, `used =`)."""

    def __init__(self, runner: Runner, policy: KeepPolicy, clock: Callable[[], float]) -> None:
        capabilities = runner.capabilities
        self._runner = runner
        self._policy = policy
        self._clock = clock
        self._num_slots = capabilities.num_slots
        self._tree = PrefixTree()
        self._free_ids = list(range(capabilities.num_slots, capabilities.num_sequence_ids))
        self._kept: dict[int, _Kept] = {}
        self._running: set[int] = set()
        self.num_cells = capabilities.num_cells

    @property
    def num_used(self) -> int:
        return self._tree.num_cells

    @property
    def num_kept(self) -> int:
        """Cells that only kept prefixes have."""
        return self._tree.num_cells - self._tree.num_cells_of(self._running)

    def num_tokens(self, slot: int) -> int:
        """How many tokens of a running sequence have cells."""
        return self._tree.num_tokens(slot)

    def num_known(self, prompt: Seq[int]) -> int:
        """How many tokens of a prompt need not be computed."""
        return self._match(prompt).num_tokens

    def num_taken(self, prompt: Seq[int]) -> int:
        """Cells of running sequences, counting the known prefix of a prompt as if it ran already."""
        return self._tree.num_cells_of(self._running, self._match(prompt))

    def start(self, slot: int, prompt: Seq[int]) -> int:
        """A new running sequence with the longest known prefix of its prompt; returns that prefix's tokens."""
        self._tree.open(slot)
        self._running.add(slot)
        match = self._match(prompt)
        if match.source_id is None:
            return 0
        self._runner.copy_cells(match.source_id, slot, match.num_tokens)
        self._tree.share(match.source_id, slot, match.num_tokens)
        for sequence_id in (match.source_id, *self._tree.inner_ids(slot)):
            if sequence_id in self._kept:
                self._kept[sequence_id].last_used_s = self._clock()
        return match.num_tokens

    def grow(self, slot: int, tokens: Seq[int]) -> None:
        """The sequence got cells for the tokens that follow."""
        self._tree.extend(slot, tokens)

    def finish(self, slot: int, tokens: Seq[int]) -> None:
        """The sequence is over; its prefix is kept if that is worth it and nobody else has it anyway."""
        num_tokens = min(self._tree.num_tokens(slot), self._policy.max_cells)  # the beginning is what others may share
        known = self._tree.match(tokens, num_tokens, ignoring=slot).num_tokens if self._can_share else num_tokens
        if num_tokens >= max(_MIN_KEPT_TOKENS, known + 1) and self._make_id_free():
            self._keep(slot, num_tokens)
        self.drop(slot)
        self._shrink_kept()

    def drop(self, slot: int) -> None:
        """The sequence is over, and what its own cells hold is worth nothing."""
        self._running.discard(slot)
        self._forget(slot)

    def make_room(self, num_cells: int) -> bool:
        """Gives up kept prefixes, least recently used first, until so many cells are free; False if they never are."""
        while self.num_cells - self.num_used < num_cells:
            if not self._evict():
                return False
        return True

    def expire(self) -> None:
        """Gives up the prefixes that nobody used for the policy's time."""
        oldest_s = self._clock() - self._policy.ttl_s
        for sequence_id in [i for i, kept in self._kept.items() if kept.last_used_s < oldest_s]:
            self._give_up(sequence_id)

    def _match(self, prompt: Seq[int]) -> Match:
        """The prompt's last token is always computed, for its logits are wanted."""
        return self._tree.match(prompt, len(prompt) - 1) if self._can_share else NO_MATCH

    @property
    def _can_share(self) -> bool:
        return bool(self._free_ids or self._kept)

    def _keep(self, slot: int, num_tokens: int) -> None:
        kept_id = self._free_ids.pop()
        self._runner.copy_cells(slot, kept_id, num_tokens)
        self._tree.open(kept_id)
        self._tree.share(slot, kept_id, num_tokens)
        self._kept[kept_id] = _Kept(self._clock())
        for inner in self._tree.inner_ids(kept_id):  # one id for the longest path is enough
            if inner in self._kept:
                self._give_up(inner)

    def _make_id_free(self) -> bool:
        return bool(self._free_ids) or self._evict()

    def _shrink_kept(self) -> None:
        while self.num_kept > self._policy.max_cells and self._evict():
            pass

    def _evict(self) -> bool:
        if not self._kept:
            return False
        self._give_up(min(self._kept, key=lambda sequence_id: self._kept[sequence_id].last_used_s))
        return True

    def _give_up(self, kept_id: int) -> None:
        del self._kept[kept_id]
        self._forget(kept_id)
        self._free_ids.append(kept_id)

    def _forget(self, sequence_id: int) -> None:
        self._tree.close(sequence_id)
        self._runner.remove_cells(sequence_id)
