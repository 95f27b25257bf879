"""What each door has with one replica, as the replica counts it: what waits there for a replica,
and what is computed here. Doors know by themselves only what they have routed.

Knows no replica.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from appliance.fleet.routing import Load
from appliance.fleet.serving.wire import AtDoor, Sent
from appliance.gateway.accounts.cost import cost_of
from appliance.worker.frames import AskQuestion

_TOLD_S = 30.0  # for which what a door had waiting is believed


@dataclass
class Computed:
    """One request. `began` when its prompt is computed."""

    door: str
    num_prompt_tokens: int
    num_answer_tokens: int

    def began(self) -> None:
        self.num_prompt_tokens = 0


class AtDoors:
    """Of one replica."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, tuple[int, float]] = {}  # tokens, and when that was told
        self._computed: dict[int, Computed] = {}
        self._next = 0

    @property
    def num_waiting_tokens(self) -> int:
        """Of prompts, at all doors."""
        since_s = self._clock() - _TOLD_S
        return sum(num for num, told_s in self._waiting.values() if told_s > since_s)

    @contextmanager
    def computing(self, at_door: AtDoor, sent: Sent) -> Iterator[Computed]:
        """While a request of that door is here."""
        self._waiting[at_door.door] = at_door.num_waiting_tokens, self._clock()
        prompt = answer = 0
        if not isinstance(sent, AskQuestion):
            cost = cost_of(sent.request)
            prompt, answer = cost.prompt, cost.answer
        number, self._next = self._next, self._next + 1
        computed = self._computed[number] = Computed(at_door.door, prompt, answer)
        try:
            yield computed
        finally:
            del self._computed[number]

    def loads(self) -> dict[str, Load]:
        """By door, of those that have anything here."""
        loads: dict[str, Load] = {}
        for each in self._computed.values():
            load = Load(1, each.num_prompt_tokens, each.num_answer_tokens)
            loads[each.door] = loads.get(each.door, Load()) + load
        return loads
