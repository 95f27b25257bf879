"""Whose request is next: deficit round robin over tokens.

Knows no model, no clock and no event loop.

Source: M. Shreedhar and G. Varghese, "Efficient fair queuing using deficit round robin",
SIGCOMM 1995. Callers take turns. Each turn brings a caller credit, as many tokens as its
weight says, and its requests go, first come, first served, as far as the credit reaches;
what is left of it counts in its next turn. So a caller gets its share of the tokens
whatever the size of its requests and however many of them wait, and waits no longer than
the others take for their shares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

# A turn of a caller of the default priority (10) is a short chat.
TOKENS_PER_WEIGHT = 64

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, eq=False)
class Entry(Generic[ItemT]):
    """One request that waits."""

    caller_id: str
    weight: int  # of its caller, at least 1
    num_tokens: int  # what it is expected to take
    item: ItemT


@dataclass
class _Flow(Generic[ItemT]):
    """What waits of one caller."""

    credit: int  # tokens; below 0 after more was taken than was expected
    entries: deque[Entry[ItemT]] = field(default_factory=deque)

    @property
    def quantum(self) -> int:
        """What a turn brings; by the priority that its next request came with."""
        return self.entries[0].weight * TOKENS_PER_WEIGHT

    @property
    def is_able(self) -> bool:
        return self.credit >= self.entries[0].num_tokens

    @property
    def num_turns(self) -> int:
        """How many it takes until the next request can go."""
        missing = max(0, self.entries[0].num_tokens - self.credit)
        return -(-missing // self.quantum)


class FairQueue(Generic[ItemT]):
    """The requests of all callers."""

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[ItemT]] = {}  # by caller, whose turn it is first
        self.num_tokens = 0

    def __len__(self) -> int:
        return sum(len(flow.entries) for flow in self._flows.values())

    def __iter__(self) -> Iterator[Entry[ItemT]]:
        return (entry for flow in self._flows.values() for entry in flow.entries)

    def put(self, entry: Entry[ItemT]) -> None:
        """Behind its caller's others; a caller who has none behind all other callers."""
        assert entry.weight >= 1
        flow = self._flows.get(entry.caller_id)
        if flow is None:
            flow = self._flows[entry.caller_id] = _Flow(entry.weight * TOKENS_PER_WEIGHT)
        flow.entries.append(entry)
        self.num_tokens += entry.num_tokens

    def take(self) -> Entry[ItemT]:
        """The next one, of at least one that waits."""
        flow = self._next_flow()
        entry = flow.entries[0]
        flow.credit -= entry.num_tokens
        self._drop(flow, entry)
        return entry

    def discard(self, entry: Entry[ItemT]) -> None:
        """It waits no longer; its caller has lost nothing by it."""
        self._drop(self._flows[entry.caller_id], entry)

    def settle(self, entry: Entry[ItemT], num_tokens: int) -> None:
        """One that was taken took so many tokens in fact: the difference is credit or debt
        of its caller's, as long as something of it waits.
        """
        if (flow := self._flows.get(entry.caller_id)) is not None:
            flow.credit += entry.num_tokens - num_tokens

    def _next_flow(self) -> _Flow[ItemT]:
        """The first that is able to go; turns that bring nobody there are not counted out."""
        while True:
            for _ in range(len(self._flows)):
                caller_id, flow = next(iter(self._flows.items()))
                if flow.is_able:
                    return flow
                del self._flows[caller_id]
                self._flows[caller_id] = flow
                flow.credit += flow.quantum
            num_turns = min(flow.num_turns for flow in self._flows.values()) - 1
            for flow in self._flows.values():
                flow.credit += max(0, num_turns) * flow.quantum

    def _drop(self, flow: _Flow[ItemT], entry: Entry[ItemT]) -> None:
        flow.entries.remove(entry)
        self.num_tokens -= entry.num_tokens
        if not flow.entries:  # who has nothing to ask saves up nothing
            del self._flows[entry.caller_id]
