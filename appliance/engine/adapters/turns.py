"""Whose turn it is, of sequences that are computed with other adapters.

Knows no rows and no cells.

All rows of a step are computed with the same adapters, and changing these costs the
runner time: so each set of adapters that somebody runs with has the steps for a while.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet
from appliance.engine.sequence import Sequence


class AdapterTurns:
    """Each set that has something to compute keeps the steps for `quantum_s`, unless it is
    the only one; then comes the one that had them longest ago.
    """

    def __init__(self, quantum_s: float, clock: Callable[[], float]) -> None:
        self._quantum_s = quantum_s
        self._clock = clock
        self._current = NO_ADAPTERS
        self._began_s = clock()
        self._ended_s: dict[AdapterSet, float] = {}  # of those that wait for their turn

    def groups(self, entitled: list[Sequence]) -> list[list[Sequence]]:
        """Sequences of the same adapters, those first whose turn it is; the next ones are
        for when these have nothing to compute.
        """
        groups: dict[AdapterSet, list[Sequence]] = {}
        for seq in entitled:
            groups.setdefault(seq.adapters, []).append(seq)
        self._ended_s = {each: s for each, s in self._ended_s.items() if each in groups}
        if len(groups) < 2:
            return list(groups.values())
        is_over = self._clock() - self._began_s >= self._quantum_s

        def waits_since(adapters: AdapterSet) -> tuple[bool, float]:
            if adapters == self._current:
                return is_over, self._clock()
            return not is_over, self._ended_s.get(adapters, 0.0)

        return [groups[adapters] for adapters in sorted(groups, key=waits_since)]

    def take(self, adapters: AdapterSet) -> bool:
        """A step is computed with these; whether they are others than before."""
        if adapters == self._current:
            return False
        now_s = self._clock()
        self._ended_s[self._current] = now_s
        self._current, self._began_s = adapters, now_s
        return True
