"""Prefixes whose cells were saved to host memory, found again by their tokens.

Knows no cache and no model.

Only the cells that a prefix shared with nobody are saved with it: to be restored, what
comes before them must be in the cache, or be restored first from another saved prefix.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass


@dataclass(eq=False, kw_only=True)
class SavedPrefix:
    """Cells of a prefix, as the runner saved them."""

    tokens: list[int]  # of the whole prefix
    first: int  # position of the first saved cell
    data: bytes
    last_used_s: float
    num_uses: int = 0  # requests that took it over, here or when it was in the cache
    num_exact: int = 0  # of the tokens, the first ones, computed as they always are
    on_disk: bool = False
    is_needed: bool = False  # a preempted sequence will go on from it, so it stays
    is_branch: bool = False  # others went on from it in other ways: see `Checkpoints`

    @property
    def num_cells(self) -> int:
        return len(self.tokens) - self.first


@dataclass(frozen=True)
class SavedSpan:
    """Cells of the positions `first` to `last` - 1 of a prompt, which `saved` holds."""

    saved: SavedPrefix
    first: int
    last: int


class HostPrefixes:
    """Saved prefixes of `max_bytes` together; the least recently used go first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._saved: list[SavedPrefix] = []
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._saved)

    def __contains__(self, saved: SavedPrefix) -> bool:
        return saved in self._saved

    @property
    def room_bytes(self) -> int:
        """What one more prefix may take at most: all but what is needed."""
        return self.max_bytes - sum(len(saved.data) for saved in self._saved if saved.is_needed)

    def add(self, saved: SavedPrefix) -> bool:
        """Keeps a prefix, in the place of those that it continues, and forgets others
        until it fits.

        False, and nothing kept of it, if that cannot be done without one that is
        needed.
        """
        if not 0 < len(saved.data) <= self.room_bytes:
            return False
        for older in [s for s in self._saved if not s.is_needed and s.first >= saved.first]:
            if older.num_exact <= saved.num_exact and _is_prefix(older.tokens, saved.tokens):
                saved.num_uses = max(saved.num_uses, older.num_uses)
                self.remove(older)
        self._shrink(self.max_bytes - len(saved.data))
        self._saved.append(saved)
        self.num_bytes += len(saved.data)
        return True

    def bound(self, max_bytes: int) -> None:
        """From now on no more than this; what is needed stays until it is not, even if
        that is more.
        """
        self.max_bytes = max_bytes
        self._shrink(max_bytes)

    def _shrink(self, max_bytes: int) -> None:
        if self.num_bytes <= max_bytes:
            return
        leaving = sorted(
            (s for s in self._saved if not s.is_needed), key=lambda s: s.last_used_s, reverse=True
        )
        while self.num_bytes > max_bytes and leaving:
            self.remove(leaving.pop())

    def spans(self, prompt: Seq[int], num_resident: int, min_tokens: int) -> list[SavedSpan]:
        """What continues the first `num_resident` tokens of a prompt, span by span;
        its last token is never wanted.

        No span is shorter than `min_tokens`.
        """
        spans: list[SavedSpan] = []
        known, most = num_resident, len(prompt) - 1
        while True:
            reach = [
                (num_common(s.tokens, prompt, most), s) for s in self._saved if s.first <= known
            ]
            last, saved = max(reach, key=lambda pair: pair[0], default=(0, None))
            if saved is None or last < known + min_tokens:
                return spans
            spans.append(SavedSpan(saved, known, last))
            known = last

    def exact_spans(
        self, prompt: Seq[int], num_resident: int, most: int, block_rows: int
    ) -> list[SavedSpan]:
        """As `spans`, but whole blocks that were computed as they always are, and each
        span from its saved cells' first on: so all lie as if computed in their order.
        """
        spans: list[SavedSpan] = []
        known = num_resident
        while True:
            reach = [
                (min(num_common(s.tokens, prompt, most), s.num_exact), s)
                for s in self._saved
                if s.first == known
            ]
            num_reached, saved = max(reach, key=lambda pair: pair[0], default=(0, None))
            last = num_reached // block_rows * block_rows
            if saved is None or last <= known:
                return spans
            spans.append(SavedSpan(saved, known, last))
            known = last

    def num_on_disk(self, tokens: Seq[int]) -> int:
        """How many of the first of these tokens could be
        restored from what is on disk.
        """
        known = 0
        while True:
            reach = [
                num_common(s.tokens, tokens, len(tokens))
                for s in self._saved
                if s.on_disk and s.first <= known
            ]
            if max(reach, default=0) <= known:
                return known
            known = max(reach)

    def worth_a_file(self, min_tokens: int) -> SavedPrefix | None:
        """A prefix of at least `min_tokens` that was used again and is not on disk; none
        with moved cells.
        """
        worth = (
            s
            for s in self._saved
            if s.num_uses and not (s.on_disk or has_moved(s.tokens)) and len(s.tokens) >= min_tokens
        )
        return next(worth, None)

    def last_used(self) -> list[SavedPrefix]:
        """All, the last used one first."""
        return sorted(self._saved, key=lambda s: s.last_used_s, reverse=True)

    def expire(self, oldest_s: float) -> None:
        """Forgets what was last used before `oldest_s`."""
        for saved in [s for s in self._saved if s.last_used_s < oldest_s and not s.is_needed]:
            self.remove(saved)

    def whole(self, tokens: Seq[int]) -> list[SavedPrefix]:
        """One that begins with these tokens, with all its cells, or nothing."""
        return [s for s in self._beginning_with(tokens) if s.first == 0][:1]

    def remove_all(self, tokens: Seq[int]) -> int:
        """Forgets those that begin with these tokens; returns how many."""
        leaving = [s for s in self._beginning_with(tokens) if not s.is_needed]
        for saved in leaving:
            self.remove(saved)
        return len(leaving)

    def _beginning_with(self, tokens: Seq[int]) -> list[SavedPrefix]:
        return [s for s in self._saved if tokens and _is_prefix(tokens, s.tokens)]

    def remove(self, saved: SavedPrefix) -> None:
        """Forgets one."""
        self._saved.remove(saved)
        self.num_bytes -= len(saved.data)


def has_moved(tokens: Seq[int]) -> bool:
    """Whether a prefix ends with moved cells (`moved_cells`), or what followed them."""
    return bool(tokens) and tokens[-1] < 0


def num_common(one: Seq[int], other: Seq[int], most: int) -> int:
    """Length of the common prefix, up to `most`."""
    low, high = 0, min(len(one), len(other), most)
    if high <= 0 or one[0] != other[0]:
        return 0
    if list(one[:high]) == list(other[:high]):
        return high
    while low < high:  # by halves, each compared at the speed of C
        middle = (low + high + 1) // 2
        if list(one[low:middle]) == list(other[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _is_prefix(one: Seq[int], other: Seq[int]) -> bool:
    return len(one) <= len(other) and num_common(one, other, len(one)) == len(one)
