"""What whole sequences have computed, saved at chosen places, for models whose sequences
cannot share cells: recurrent, hybrid and sliding-window ones.

Knows no schedule and no step.

Such a save (`Runner.save_cells`) is of use to who begins with all of its tokens, not with
some of them. It holds the cells since the one that it continues, and the state as a whole:
so checkpoints are a tree, restored from its root on, and only leaves are forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Seq

from appliance.engine.cache.host_prefixes import (
    HostPrefixes,
    SavedPrefix,
    SavedSpan,
    num_common,
)
from appliance.engine.runner import Runner

MIN_TOKENS = 16  # from one checkpoint to the next: fewer cost less to compute than to look after
_MIN_BRANCH_TOKENS = 64  # that prompts must have in common beyond what is known
# Of a long prompt, so that who asks about its beginning again need not compute it all.
_INTERVAL = 1024
_MAX_STATES_SHARE = 4  # of the budget: 1 / this may be the states of one context's checkpoints
# Of prompts whose tokens are remembered, to see where others branch off.
_NUM_RECENT, _MAX_RECENT_TOKENS = 64, 1 << 18


class Checkpoints(HostPrefixes):
    """Saved prefixes that are restored whole, or not at all."""

    def __init__(self, runner: Runner, max_bytes: int, clock: Callable[[], float]) -> None:
        super().__init__(max_bytes)
        self._runner = runner
        self._clock = clock
        capabilities = runner.capabilities
        self._interval = _INTERVAL
        while (
            capabilities.state_bytes * capabilities.num_cells * _MAX_STATES_SHARE
            > max_bytes * self._interval
            and self._interval < capabilities.num_cells
        ):
            self._interval *= 2
        # By slot: the last checkpoint on its sequence's way, and those that it made itself.
        self._last: dict[int, SavedPrefix] = {}
        self._made: dict[int, list[SavedPrefix]] = {}
        self._recent: deque[list[int]] = deque(maxlen=_NUM_RECENT)  # with their answers

    def spans_of(self, prompt: Seq[int], *, is_exact: bool = False) -> list[SavedSpan]:
        """The longest one that a prompt begins with, and what that continues, in order.

        `is_exact`: those only that were computed as they always are.
        """
        chain = self._longest_chain(prompt, len(prompt) - 1, is_exact=is_exact)
        return [SavedSpan(each, each.first, len(each.tokens)) for each in chain]

    def places(self, prompt: list[int], num_known: int) -> list[int]:
        """After how many tokens of a prompt that goes on from `num_known` checkpoints are
        worth it: at regular distances, and where it and an earlier one part.
        """
        num_least = num_known + _MIN_BRANCH_TOKENS
        earlier = [each for each in self._recent if each is not prompt]
        parting = max((num_common(each, prompt, len(prompt) - 1) for each in earlier), default=0)
        self._remember(prompt)
        places = set(range(num_known + self._interval, len(prompt) - MIN_TOKENS, self._interval))
        if parting >= num_least:
            places.add(parting)
        return sorted(places)

    def _remember(self, prompt: list[int]) -> None:
        if not any(each is prompt for each in self._recent):
            self._recent.append(prompt)
        while sum(map(len, self._recent)) > _MAX_RECENT_TOKENS:
            self._recent.popleft()

    def went_on(self, slot: int, saved: SavedPrefix) -> None:
        """The slot's sequence has all that `saved` holds."""
        self._last[slot] = saved

    def take(
        self,
        slot: int,
        tokens: list[int],
        *,
        is_needed: bool = False,
        is_branch: bool = False,
        num_uses: int = 0,
        num_exact: int = 0,
    ) -> SavedPrefix | None:
        """Saves what the slot's sequence, which has computed these tokens, is now; None if
        that is not worth it, or there is no room.
        """
        known = next((s for s in self._saved if s.tokens == tokens), None)
        if known is not None and num_exact <= known.num_exact and self._chain(known):
            known.last_used_s = self._clock()
            known.is_needed |= is_needed
            known.is_branch |= is_branch
            self._last[slot] = known
            return known
        last = self._last.get(slot)
        if len(tokens) - (0 if last is None else len(last.tokens)) < MIN_TOKENS:
            return None
        parent = self._parent_for(last)
        first = 0 if parent is None else len(parent.tokens)
        data = self._runner.save_cells(slot, first, self.room_bytes)
        if data is None:
            return None
        made = self._made.setdefault(slot, [])
        saved = SavedPrefix(
            tokens=tokens,
            first=first,
            data=data,
            last_used_s=self._clock(),
            # a chat that went on before will go on again
            num_uses=max([num_uses, *(each.num_uses for each in made)]),
            num_exact=num_exact,
            is_needed=is_needed,
            is_branch=is_branch,
        )
        for older in [s for s in self._saved if s.first == first and s not in made]:
            if self._is_replaced(older, saved):
                saved.num_uses = max(saved.num_uses, older.num_uses)
                self.remove(older)
        if not self.add(saved):
            return None
        self._last[slot] = saved
        made.append(saved)
        return saved

    def left(self, slot: int) -> None:
        """The slot's sequence is over, or gave its cells away."""
        self._last.pop(slot, None)
        self._made.pop(slot, None)

    def add(self, saved: SavedPrefix) -> bool:
        if not 0 < len(saved.data) <= self.room_bytes:
            return False
        for older in [s for s in self._saved if s.first == saved.first and not s.is_needed]:
            if older.tokens == saved.tokens:  # of another run, such as of a file put back
                self.remove(older)
        self._shrink(self.max_bytes - len(saved.data), continued=saved)
        if self.num_bytes + len(saved.data) > self.max_bytes:
            return False
        self._saved.append(saved)
        self.num_bytes += len(saved.data)
        return True

    def worth_a_file(self, min_tokens: int) -> SavedPrefix | None:
        """As of other prefixes; what one continues goes first."""
        for saved in self._saved:
            if saved.num_uses and not saved.on_disk and len(saved.tokens) >= min_tokens:
                chain = self._chain(saved)
                if chain:
                    return next(each for each in chain if not each.on_disk)
        return None

    def whole(self, tokens: Seq[int]) -> list[SavedPrefix]:
        """As many of these tokens as are saved: the last one and what that continues."""
        return self._longest_chain(tokens, len(tokens))

    def remove_all(self, tokens: Seq[int]) -> int:
        """Those that these tokens begin with too, up to where others go on."""
        num_removed = super().remove_all(tokens)
        on_the_way = [s for s in self._saved if _is_beginning(s.tokens, tokens)]
        for saved in sorted(on_the_way, key=lambda s: len(s.tokens), reverse=True):
            if saved.is_needed or saved.is_branch or self._is_continued(saved):
                break
            self.remove(saved)
            num_removed += 1
        return num_removed

    def _longest_chain(
        self, tokens: Seq[int], most: int, *, is_exact: bool = False
    ) -> list[SavedPrefix]:
        for saved in sorted(self._saved, key=lambda s: len(s.tokens), reverse=True):
            if len(saved.tokens) <= most and _is_beginning(saved.tokens, tokens):
                chain = self._chain(saved)
                if chain and not (is_exact and any(e.num_exact < len(e.tokens) for e in chain)):
                    return chain
        return []

    def _parent_for(self, last: SavedPrefix | None) -> SavedPrefix | None:
        """What a checkpoint behind `last` continues: that itself where it is far from what
        it continues, so that neither chains grow long nor cells are saved many times over.
        """
        if last is None or last not in self._saved:
            return None
        parent = last if self._is_anchor(last) else self._parent(last)
        return parent if parent is not None and self._chain(parent) else None

    def _is_anchor(self, saved: SavedPrefix) -> bool:
        return saved.is_branch or saved.num_cells >= self._interval

    def _parent(self, saved: SavedPrefix) -> SavedPrefix | None:
        """What it continues; None where it does not, or that is gone."""
        if saved.first == 0:
            return None
        parents = (s for s in self._saved if _continues(saved, s))
        return max(parents, key=lambda s: s.num_exact, default=None)

    def _chain(self, saved: SavedPrefix) -> list[SavedPrefix]:
        """It and all that it continues, the first one first; empty where one is gone."""
        chain = [saved]
        while chain[0].first:
            parent = self._parent(chain[0])
            if parent is None:
                return []
            chain.insert(0, parent)
        return chain

    def _is_replaced(self, older: SavedPrefix, newer: SavedPrefix) -> bool:
        return (
            not (older.is_needed or self._is_continued(older))
            and (not self._is_anchor(older) or older.tokens == newer.tokens)
            and older.num_exact <= newer.num_exact
            and _is_beginning(older.tokens, newer.tokens)
        )

    def _is_continued(self, saved: SavedPrefix) -> bool:
        return any(_continues(other, saved) for other in self._saved)

    def _shrink(self, max_bytes: int, continued: SavedPrefix | None = None) -> None:
        """Forgets leaves, the least recently used first, but not what `continued`
        continues.
        """
        while self.num_bytes > max_bytes:
            leaves = (
                saved
                for saved in sorted(self._saved, key=lambda s: s.last_used_s)
                if not (saved.is_needed or self._is_continued(saved))
                and not (continued is not None and _continues(continued, saved))
            )
            leaf = next(leaves, None)
            if leaf is None:
                return
            self.remove(leaf)


def _continues(saved: SavedPrefix, other: SavedPrefix) -> bool:
    return saved.first == len(other.tokens) and _is_beginning(other.tokens, saved.tokens)


def _is_beginning(one: Seq[int], other: Seq[int]) -> bool:
    """The last tokens are compared first: there, most of one length differ."""
    num_tokens = len(one)
    if num_tokens > len(other) or one[num_tokens - 1] != other[num_tokens - 1]:
        return False
    return num_common(one, other, num_tokens) == num_tokens
