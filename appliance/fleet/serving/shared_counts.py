"""What all doors have counted together, as their one owner knows it.

Knows no key and no wire. Doors tell totals since their start, not what is new: a report that
is lost, or comes twice, changes nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from appliance.gateway.accounts.used import Amount

_AWAY_S = 10.0  # of a door that reports every second: its requests are over
_GONE_S = 3600.0  # no meter looks back so far


class Total(NamedTuple):
    """Of one caller."""

    taken: Amount
    num_running: int


@dataclass
class _Door:
    totals: Mapping[str, Total] = field(default_factory=dict)
    heard_s: float = 0.0


class SharedCounts:
    """Of the doors that report to it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # totals of two owners, one after the other, are not to be compared
        self.epoch = uuid.uuid4().hex
        self._clock = clock
        self._doors: dict[str, _Door] = {}

    def report(self, door: str, totals: Mapping[str, Total]) -> dict[str, Total]:
        """What all other doors have, by caller. Of one that is gone its callers have what they
        took, and nothing in flight.
        """
        now_s = self._clock()
        self._doors[door] = _Door(totals, now_s)
        for name in [name for name, each in self._doors.items() if now_s - each.heard_s > _GONE_S]:
            del self._doors[name]
        elsewhere: dict[str, Total] = {}
        for name, other in self._doors.items():
            if name == door:
                continue
            is_there = now_s - other.heard_s < _AWAY_S
            for caller, total in other.totals.items():
                before = elsewhere.get(caller, Total(Amount(0, 0), 0))
                elsewhere[caller] = Total(
                    _plus(before.taken, total.taken),
                    before.num_running + (total.num_running if is_there else 0),
                )
        return elsewhere


class Elsewhere:
    """What a door has been told of the others, and so what is new in what it is told now."""

    def __init__(self) -> None:
        self._epoch = ""
        self._last: Mapping[str, Total] = {}

    def news(self, epoch: str, totals: Mapping[str, Total]) -> dict[str, Total]:
        """By caller, what was taken since the last time. Of an owner that is new, what it was
        told so far stands in the doors' own counts already.
        """
        last, self._last = self._last, totals
        is_new, self._epoch = epoch != self._epoch, epoch
        found = {}
        for caller, total in totals.items():
            before = total.taken if is_new else last.get(caller, Total(Amount(0, 0), 0)).taken
            taken = Amount(
                max(0, total.taken.num_requests - before.num_requests),
                max(0, total.taken.num_tokens - before.num_tokens),
            )
            found[caller] = Total(taken, total.num_running)
        for caller in last.keys() - totals.keys():
            found[caller] = Total(Amount(0, 0), 0)
        return found


def _plus(one: Amount, other: Amount) -> Amount:
    return Amount(one.num_requests + other.num_requests, one.num_tokens + other.num_tokens)
