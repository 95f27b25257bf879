"""Which prefix files continue which, so that none outlives what it needs.

Knows no file format and no budget: whoever keeps to one takes the oldest files first, and
this makes what others continue newer than those.
"""

from __future__ import annotations

import contextlib
import os
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.adapters.sets import key_of, plain_tokens
from appliance.engine.cache.host_prefixes import SavedPrefix


@dataclass(frozen=True)
class _Written:
    tokens: array[int]  # of the whole prefix; 4 bytes each, where its cells take hundreds
    first: int  # from which on the file has cells
    adapters: int

    def has(self, prefix: SavedPrefix, tokens: array[int], num_tokens: int) -> bool:
        """Some of the cells that end with the prefix's first so many tokens."""
        return (
            self.first < num_tokens <= len(self.tokens)
            and self.adapters == key_of(prefix.tokens)
            and self.tokens[:num_tokens] == tokens[:num_tokens]
        )


class PrefixChains:
    """Of the files that one worker has read or written."""

    def __init__(self) -> None:
        self._written: dict[Path, _Written] = {}

    def note(self, path: Path, saved: SavedPrefix) -> None:
        """`saved` is in the file at `path`."""
        tokens = array("i", plain_tokens(saved.tokens))
        self._written[path] = _Written(tokens, saved.first, key_of(saved.tokens))

    def renew(self, saved: SavedPrefix) -> None:
        """Makes all files that `saved`, which was just written, continues newer than its
        own: what comes first in a chain is the newest.
        """
        tokens = array("i", plain_tokens(saved.tokens))
        num_tokens, now_ns = saved.first, time.time_ns()
        while num_tokens:
            path = self._behind(saved, tokens, num_tokens)
            if path is None:
                return
            now_ns += 1_000_000  # more than a file system's clock may be coarse
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, ns=(now_ns, now_ns))
            num_tokens = self._written[path].first

    def _behind(self, saved: SavedPrefix, tokens: array[int], num_tokens: int) -> Path | None:
        """The file that holds most of what lies in front; forgets those that are gone."""
        fitting = [
            (written.first, path)
            for path, written in self._written.items()
            if written.has(saved, tokens, num_tokens)
        ]
        for _, path in sorted(fitting):
            if path.exists():
                return path
            del self._written[path]
        return None
