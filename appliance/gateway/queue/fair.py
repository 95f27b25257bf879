"""Whose request is next: start-time fair queuing over tokens.

Knows no model, no clock and no event loop.

Source: P. Goyal, H. Vin and H. Cheng, "Start-time fair queuing", SIGCOMM 1996. A caller's
requests follow each other on a scale of tokens by weight: each begins where the one before
it ended, and no sooner than what was taken last at the time that it came. The one that begins
first is next. So a caller gets its share of the tokens whatever the size of its requests and
however many of them wait; and who had nothing waiting goes before all that others have
queued, whatever their weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

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
    """One caller's way along the scale."""

    end: float  # of what was taken of it; less where that was too much, more where too little
    entries: deque[tuple[float, Entry[ItemT]]] = field(default_factory=deque)  # with their times

    @property
    def start(self) -> float:
        """Of the next one."""
        came_at, _ = self.entries[0]
        return max(came_at, self.end)


class FairQueue(Generic[ItemT]):
    """The requests of all callers."""

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[ItemT]] = {}  # of those that wait, or are ahead of `_now`
        self._now = 0.0  # the start of what was taken last
        self.num_tokens = 0

    def __len__(self) -> int:
        return sum(len(flow.entries) for flow in self._flows.values())

    def __iter__(self) -> Iterator[Entry[ItemT]]:
        return (entry for flow in self._flows.values() for _, entry in flow.entries)

    def put(self, entry: Entry[ItemT]) -> None:
        """Behind its caller's others."""
        assert entry.weight >= 1
        flow = self._flows.setdefault(entry.caller_id, _Flow(self._now))
        flow.entries.append((self._now, entry))
        self.num_tokens += entry.num_tokens

    def take(self) -> Entry[ItemT]:
        """The next one, of at least one that waits."""
        waiting = (flow for flow in self._flows.values() if flow.entries)
        flow = min(waiting, key=lambda each: each.start)
        start = flow.start
        _, entry = flow.entries.popleft()
        flow.end = start + entry.num_tokens / entry.weight
        self._now = max(self._now, start)
        self.num_tokens -= entry.num_tokens
        self._forget()
        return entry

    def discard(self, entry: Entry[ItemT]) -> None:
        """It waits no longer; its caller has lost nothing by it."""
        flow = self._flows[entry.caller_id]
        flow.entries = deque(each for each in flow.entries if each[1] is not entry)
        self.num_tokens -= entry.num_tokens
        self._forget()

    def settle(self, entry: Entry[ItemT], num_tokens: int) -> None:
        """One that was taken took so many tokens in fact: the difference moves what its
        caller asks next.
        """
        if (flow := self._flows.get(entry.caller_id)) is not None:
            flow.end += (num_tokens - entry.num_tokens) / entry.weight

    def _forget(self) -> None:
        """Who has nothing to ask saves up nothing; and where nobody has, nobody owes."""
        is_empty = not any(flow.entries for flow in self._flows.values())
        self._flows = {
            caller_id: flow
            for caller_id, flow in self._flows.items()
            if flow.entries or (flow.end > self._now and not is_empty)
        }
