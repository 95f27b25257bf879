"""How likely drafted tokens are accepted, learned by position. Knows no costs and no tokens."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from operator import itemgetter

_MOST_POSITIONS = 8  # chances of later ones are that of the last
_SLOT_DECAY = 0.85  # per observation of a position: about the last seven count
_SHARED_DECAY = 0.98
# what all slots have in common counts like so many observations of a slot's own
_SHARED_WEIGHT = 2.0
_FIRST_CHANCES = (0.5, 0.4, 0.6, 0.8, 0.7)  # by grade, before anything is known
_FIRST_WEIGHT = 2.0
# tokens less likely than that are not worth weighing, but for an offer's first
_LEAST_CHANCE = 0.01


class _Chance:
    """Decayed counts of trials and successes."""

    __slots__ = ("successes", "trials")

    def __init__(self) -> None:
        self.trials = 0.0
        self.successes = 0.0

    def add(self, success: bool, decay: float) -> None:
        self.trials = decay * self.trials + 1
        self.successes = decay * self.successes + success


_ByPosition = list[_Chance]


class Chances:
    """Of a token being right if all before it in its proposal are."""

    def __init__(self) -> None:
        self._shared: dict[int, _ByPosition] = {}  # by grade
        self._slots: dict[int, dict[int, _ByPosition]] = {}

    def ranked(self, offers: Seq[tuple[int, int, int, bool]]) -> list[tuple[float, int, bool]]:
        """(chance to be accepted, slot, whether it takes time) of every token offered,
        the likeliest first.

        `offers` are (slot, grade, number of tokens, whether they take time). A token's
        chance is never more than that of the one before it, so the first n are always
        beginnings of offers.
        """
        ranked = []
        for slot, grade, num_tokens, takes_time in offers:
            shared = self._of(self._shared, grade)
            slots = self._slots.get(slot)
            own = None if slots is None else slots.get(grade)
            chance, conditional = 1.0, _FIRST_CHANCES[min(grade, len(_FIRST_CHANCES) - 1)]
            for position in range(num_tokens):
                if position < _MOST_POSITIONS:
                    conditional = _blend(shared[position], _FIRST_WEIGHT, conditional)
                    of_slot = conditional
                    if own is not None:
                        of_slot = _blend(own[position], _SHARED_WEIGHT, conditional)
                chance *= of_slot
                if chance < _LEAST_CHANCE and position:
                    break
                ranked.append((chance, slot, takes_time))
        if len(offers) > 1:
            ranked.sort(key=itemgetter(0), reverse=True)
        return ranked

    def learn(self, slot: int, grade: int, depth: int, num_right: int) -> None:
        """Of `depth` drafted tokens the first `num_right` were right; behind the first
        wrong one nothing is known.
        """
        own = self._of(self._slots.setdefault(slot, {}), grade)
        shared = self._of(self._shared, grade)
        for position in range(min(depth, num_right + 1)):
            is_right = position < num_right
            at = min(position, _MOST_POSITIONS - 1)
            own[at].add(is_right, _SLOT_DECAY)
            shared[at].add(is_right, _SHARED_DECAY)

    def forget(self, slot: int) -> None:
        """What all slots have in common stays."""
        self._slots.pop(slot, None)

    @staticmethod
    def _of(grades: dict[int, _ByPosition], grade: int) -> _ByPosition:
        if grade not in grades:
            grades[grade] = [_Chance() for _ in range(_MOST_POSITIONS)]
        return grades[grade]


def _blend(chance: _Chance, weight: float, otherwise: float) -> float:
    return (chance.successes + weight * otherwise) / (chance.trials + weight)
