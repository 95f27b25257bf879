"""How likely drafted tokens are accepted, learned by position.

Knows no costs and no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from operator import itemgetter
from typing import NamedTuple

from appliance.engine.drafting.offers import DraftOffer

_MAX_POSITIONS = 8  # the rates of later ones are that of the last
_SLOT_DECAY = 0.85  # per observation of a position: about the last seven count
_SHARED_DECAY = 0.98
_SHARED_WEIGHT = 2.0  # what all slots have in common counts like so many of a slot's observations
_FIRST_RATES = (0.5, 0.4, 0.6, 0.8, 0.7)  # by grade, before anything is known
_FIRST_WEIGHT = 2.0
_MIN_CHANCE = 0.01  # less likely tokens are not worth weighing, but for an offer's first


class RankedToken(NamedTuple):
    """A token that is offered."""

    chance: float  # to be accepted, and all in front of it too
    slot: int
    takes_time: bool  # to draft it


class _Rate:
    """Decayed counts of trials and successes."""

    __slots__ = ("successes", "trials")

    def __init__(self) -> None:
        self.trials = 0.0
        self.successes = 0.0

    def add(self, success: bool, decay: float) -> None:
        self.trials = decay * self.trials + 1
        self.successes = decay * self.successes + success


_ByPosition = list[_Rate]


class AcceptanceRates:
    """Of a token being accepted if all in front of it in its proposal are."""

    def __init__(self) -> None:
        self._shared: dict[int, _ByPosition] = {}  # by grade
        self._slots: dict[int, dict[int, _ByPosition]] = {}  # by slot and grade

    def ranked(self, offers: Seq[DraftOffer]) -> list[RankedToken]:
        """Every token offered, the likeliest first.

        A token's chance is never more than that of the one in front of it, so the first
        n are always beginnings of offers.
        """
        ranked = []
        for offer in offers:
            grade, slot = offer.grade, offer.slot
            shared = self._of(self._shared, grade)
            slots = self._slots.get(slot)
            own = None if slots is None else slots.get(grade)
            chance, conditional = 1.0, _FIRST_RATES[min(grade, len(_FIRST_RATES) - 1)]
            for position in range(offer.num_tokens):
                if position < _MAX_POSITIONS:
                    conditional = _blend(shared[position], _FIRST_WEIGHT, conditional)
                    of_slot = conditional
                    if own is not None:
                        of_slot = _blend(own[position], _SHARED_WEIGHT, conditional)
                chance *= of_slot
                if chance < _MIN_CHANCE and position:
                    break
                ranked.append(RankedToken(chance, slot, offer.takes_time))
        if len(offers) > 1:
            ranked.sort(key=itemgetter(0), reverse=True)
        return ranked

    def learn(self, slot: int, grade: int, depth: int, num_accepted: int) -> None:
        """Of `depth` drafted tokens the first `num_accepted` were right; after the
        first wrong one nothing is known.
        """
        own = self._of(self._slots.setdefault(slot, {}), grade)
        shared = self._of(self._shared, grade)
        for position in range(min(depth, num_accepted + 1)):
            is_accepted = position < num_accepted
            at = min(position, _MAX_POSITIONS - 1)
            own[at].add(is_accepted, _SLOT_DECAY)
            shared[at].add(is_accepted, _SHARED_DECAY)

    def forget(self, slot: int) -> None:
        """What all slots have in common stays."""
        self._slots.pop(slot, None)

    @staticmethod
    def _of(grades: dict[int, _ByPosition], grade: int) -> _ByPosition:
        if grade not in grades:
            grades[grade] = [_Rate() for _ in range(_MAX_POSITIONS)]
        return grades[grade]


def _blend(rate: _Rate, weight: float, otherwise: float) -> float:
    return (rate.successes + weight * otherwise) / (rate.trials + weight)
