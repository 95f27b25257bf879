"""Cells taken over behind a changed piece of a prompt: copies, moved to where the same
tokens stand now.

Knows no schedule and no step.

What such cells hold was computed after another beginning, so they are no prefix of
anybody's prompt: their tokens, and all that follow, stand in the prefix tree and among
kept and saved prefixes as `hidden` ones, which no prompt contains. Only who asks for
equal runs looks behind that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import islice

from appliance.engine.adapters.sets import key_of, plain_tokens
from appliance.engine.cache.equal_runs import Run, equal_runs
from appliance.engine.cache.host_prefixes import (
    HostPrefixes,
    SavedPrefix,
    has_moved,
    num_common,
)
from appliance.engine.cache.kept_prefixes import KeptPrefix, KeptPrefixes
from appliance.engine.cache.prefix_tree import NO_MATCH, Match
from appliance.engine.runner import Runner

_MAX_SOURCES = 8  # that are searched, the last used ones: each costs a look at all its tokens


@dataclass(frozen=True)
class KnownRun:
    """Equal tokens, and who has cells for them."""

    source: KeptPrefix | SavedPrefix
    run: Run

    @property
    def num_cells(self) -> int:
        """That must be free to take it over: saved cells are read back all together."""
        if isinstance(self.source, SavedPrefix):
            return self.source.num_cells
        return self.run.num_tokens


class MovedCells:
    """Which running sequences have moved cells, and from where others may take them."""

    def __init__(self, runner: Runner, kept: KeptPrefixes, host: HostPrefixes) -> None:
        self._runner = runner
        self._kept = kept
        self._host = host
        self._first: dict[int, int] = {}  # by slot: the position of its first such cell

    def __contains__(self, slot: int) -> bool:
        return slot in self._first

    def note(self, slot: int, first: int) -> None:
        """From this position on, at the latest, the sequence's cells are moved ones, or
        were computed behind such.
        """
        self._first[slot] = min(first, self._first.get(slot, first))

    def num_plain(self, slot: int) -> int:
        """How many cells of a sequence there can be before the first moved one."""
        return self._first.get(slot, sys.maxsize)

    def forget(self, slot: int) -> None:
        self._first.pop(slot, None)

    def hidden(self, slot: int, tokens: Seq[int], first: int = 0) -> list[int]:
        """Tokens of the sequence, from position `first` on, as others may know them."""
        num_plain = max(self._first.get(slot, first + len(tokens)) - first, 0)
        return [*tokens[:num_plain], *hide(tokens[num_plain:])]

    def prefix(self, slot: int, prompt: list[int], num_least: int) -> Match | None:
        """The kept prefix with moved cells that has most of a prompt's first tokens, for a
        sequence that is to take it over; None where none has `num_least`.
        """
        best, best_tokens = NO_MATCH, list[int]()
        for kept_id, kept in islice(self._kept.last_used(), _MAX_SOURCES):
            num_tokens = num_common(plain(kept.tokens), prompt, len(prompt) - 1)
            if has_moved(kept.tokens) and num_tokens > best.num_tokens:
                best, best_tokens = Match(num_tokens, kept_id), kept.tokens
        if best.num_tokens < num_least:
            return None
        self.note(slot, next(at for at, token in enumerate(best_tokens) if token < 0))
        return best

    def next_run(self, prompt: list[int], start: int, min_tokens: int) -> KnownRun | None:
        """The next equal run from `start` on, of the source that has most of the rest of
        the prompt.
        """
        best: tuple[int, KnownRun] | None = None
        if len(prompt) - 1 - start < min_tokens:
            return None
        adapters, prompt = key_of(prompt), plain_tokens(prompt)
        for source in self._sources():
            known = plain(source.tokens)
            if key_of(known) != adapters:
                continue
            known = plain_tokens(known)
            first = max(num_common(known, prompt, start), _first_cell(source))
            runs = equal_runs(known, first, prompt, start, min_tokens)
            num_tokens = sum(run.num_tokens for run in runs)
            if runs and (best is None or num_tokens > best[0]):
                best = (num_tokens, KnownRun(source, runs[0]))
        return None if best is None else best[1]

    def take(self, slot: int, found: KnownRun, now_s: float) -> bool:
        """Gives a sequence that ends just before the run the cells for it; False, and
        nothing changed, if they are no longer there.
        """
        source, run = found.source, found.run
        shift = run.target - run.first
        if isinstance(source, SavedPrefix):
            if source not in self._host:
                return False
            if not self._runner.load_cells(slot, source.data, run.first, run.last, shift):
                self._host.remove(source)  # it will not be accepted the next time either
                return False
        else:
            kept_id = self._kept.id_of(source)
            if kept_id is None or not self._runner.copy_moved(
                kept_id, slot, run.first, run.last, shift
            ):
                return False
        source.last_used_s = now_s
        self.note(slot, run.target)
        return True

    def _sources(self) -> Iterator[KeptPrefix | SavedPrefix]:
        """Kept prefixes first: they need not be read back."""
        yield from (kept for _, kept in islice(self._kept.last_used(), _MAX_SOURCES))
        yield from islice(self._host.last_used(), _MAX_SOURCES)


def hide(tokens: Seq[int]) -> list[int]:
    """The tokens as what no prompt contains."""
    return [~token for token in tokens]


def plain(tokens: Seq[int]) -> list[int]:
    """What the tokens are, hidden or not."""
    return [token if token >= 0 else ~token for token in tokens]


def _first_cell(source: KeptPrefix | SavedPrefix) -> int:
    return source.first if isinstance(source, SavedPrefix) else 0
