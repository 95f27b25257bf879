"""What each slot's last sequence left, by the slot's number.

Knows no running sequence, and no file.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from appliance.engine.cache.host_prefixes import HostPrefixes, SavedPrefix, has_moved
from appliance.engine.cache.kept_prefixes import KeptPrefixes


class SlotPrefixes:
    """Copied, put back and erased."""

    def __init__(self, num_slots: int, kept: KeptPrefixes, host: HostPrefixes) -> None:
        self.num_slots = num_slots
        self._kept = kept
        self._host = host
        self._last: dict[int, list[int]] = {}  # by slot: the tokens of the last one that left it

    def note(self, slot: int, tokens: list[int]) -> None:
        """A sequence left its slot, with cells of these tokens."""
        self._last[slot] = tokens

    def copy(self, slot: int, max_bytes: int) -> list[SavedPrefix]:
        """What the slot's last sequence left, from its first token on, each continuing the
        one before; empty if it left nothing, or that is no longer there, or larger, or
        has moved cells.
        """
        tokens = self._last.get(slot, [])
        if has_moved(tokens):
            return []
        kept = self._kept.copy_of(tokens, max_bytes)
        chain = self._host.whole(tokens) if kept is None else [kept]
        return chain if sum(len(each.data) for each in chain) <= max_bytes else []

    def put(self, slot: int, chain: Seq[SavedPrefix]) -> bool:
        """As if the slot's last sequence had left this; False if host memory has no room."""
        if not all(self._host.add(saved) for saved in chain):
            return False
        self._last[slot] = chain[-1].tokens
        return True

    def erase(self, slot: int) -> int:
        """Forgets what the slot's last sequence left; returns its tokens, 0 where there
        is nothing. What running sequences share stays theirs.
        """
        tokens = self._last.pop(slot, [])
        num_kept = self._kept.give_up_all(tokens)
        num_saved = self._host.remove_all(tokens)
        return len(tokens) if num_kept or num_saved else 0
