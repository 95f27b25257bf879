"""What a door knows of a model's replicas, and to which of them each request goes.

Knows no Ray: replicas have names. Requests come from the event loop of a door, choices from
the thread in which Ray routes, so everything is done under one lock, and nothing waits in it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from appliance.fleet.routing import (
    BLOCK_TOKENS,
    Fingerprints,
    KnownPrefixes,
    Load,
    Policy,
    RoutedNode,
    Router,
)
from appliance.fleet.serving.recent_prompts import unpacked
from appliance.fleet.serving.wire import ReplicaState
from appliance.protocol.health import WorkerState

_MOST_RANKED = 16  # that Ray is told of a request: it asks again where none of them takes it
_UNKNOWN_CELLS = 32_768  # that keep prefixes, before a replica has said how many it has
_PROMPT_TOKEN_MS, _TOKEN_MS = 5.0, 50.0  # likewise


@dataclass
class Entry:
    """One attempt to have a request answered."""

    prints: Fingerprints
    num_tokens: int  # of its prompt, estimated
    num_answer: int  # tokens that it may make
    excluded: Collection[str] = ()  # replicas that were lost over it
    replica: str | None = None  # to which it goes
    chosen_s: float = 0.0  # when that was said
    number: int = 0


@dataclass
class _Replica:
    at: int  # in the router's list
    state: ReplicaState | None = None


class Book:
    """Of one model."""

    def __init__(self, policy: Policy, clock: Callable[[], float] = time.monotonic) -> None:
        self.door = uuid.uuid4().hex[:16]  # whose it is, as replicas know it
        self._lock = threading.Lock()
        self._router = Router(policy, [])
        self._replicas: dict[str, _Replica] = {}
        self._names: dict[int, str] = {}  # by their places in the router's list
        self._free: list[int] = []  # places in the router's list of replicas that are gone
        self._entries: dict[str, Entry] = {}
        self._next = 0
        self._clock = clock

    def route_by(self, policy: Policy) -> None:
        with self._lock:
            nearest, self._router = self._router.nearest, Router(policy, self._router.nodes)
            self._router.nearest = nearest

    # --- as Ray tells it --------------------------------------------------------------

    def replicas_are(
        self, states: Mapping[str, ReplicaState | None], nearest: str | None = None
    ) -> None:
        """All there are, with what each has said last; `nearest` is on the door's own node."""
        with self._lock:
            for name in [*self._replicas]:
                if name not in states:
                    self._remove(name)
            for name, state in states.items():
                replica = self._replicas.get(name) or self._add(name)
                if state is not None:
                    self._describe(replica, state)
            near = self._replicas.get(nearest or "")
            self._router.nearest = None if near is None else near.at

    def ranked(self, key: str, candidates: Sequence[str]) -> list[str]:
        """Some of these replicas, the best for the request first; those that were lost over it
        come last.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:  # nobody waits for it any more
                return [*candidates]
            first = self._soonest(entry, candidates)
            others = [name for name in candidates if name != first and name in self._replicas]
            if len(others) <= _MOST_RANKED or entry.excluded:
                others.sort(key=lambda name: self._next_best(entry, name))
            ranked = ([] if first is None else [first]) + others[:_MOST_RANKED]
            if ranked:
                self._go(entry, ranked[0], self._replicas[ranked[0]])
            return ranked

    def _soonest(self, entry: Entry, candidates: Sequence[str]) -> str | None:
        """The one that answers soonest of those that answer, if any does, else of all. Of a
        thousand none is looked at by name, unless some are not to be chosen.
        """
        if not entry.excluded and len(candidates) == len(self._replicas):
            chosen = self._choose(entry)
            if chosen is not None and self._names[chosen] in candidates:
                return self._names[chosen]
        known = {name: self._replicas.get(name) or self._add(name) for name in candidates}
        usable = [
            each.at for name, each in known.items() if name not in entry.excluded and _answers(each)
        ]
        up = set(usable or [each.at for each in known.values()])
        for at, node in enumerate(self._router.nodes):
            node.is_up = at in up
        chosen = self._choose(entry)
        for each in self._replicas.values():
            self._router.nodes[each.at].is_up = _answers(each)
        return None if chosen is None else self._names[chosen]

    def _choose(self, entry: Entry) -> int | None:
        """By the policy; of questions, which compute nothing, by the way to them: they would
        take every other turn of `round_robin`, and so all of what computes might meet.
        """
        if entry.num_tokens:
            return self._router.choose(entry.prints, entry.num_tokens)
        return self._router.nearest_up()

    def _next_best(self, entry: Entry, name: str) -> tuple[bool, int, str]:
        replica = self._replicas[name]
        is_last = name in entry.excluded or not _answers(replica)
        return is_last, self._router.nodes[replica.at].num_waiting_tokens, name

    def went(self, key: str, name: str) -> None:
        """It was taken by this replica, which may be another one than the first choice."""
        with self._lock:
            entry, replica = self._entries.get(key), self._replicas.get(name)
            if entry is not None and replica is not None and entry.replica != name:
                self._go(entry, name, replica)

    # --- as a door tells it -----------------------------------------------------------

    def expect(self, key: str, entry: Entry) -> None:
        with self._lock:
            self._next += 1
            entry.number = self._next
            self._entries[key] = entry

    def began(self, key: str) -> None:
        """Its prompt is computed."""
        with self._lock:
            if (place := self._place(key)) is not None:
                self._router.began(place, self._entries[key].number)

    def ended(self, key: str) -> None:
        with self._lock:
            if (place := self._place(key)) is not None:
                self._router.ended(place, self._entries[key].number)
            self._entries.pop(key, None)

    def waiting_on(self, key: str) -> tuple[str | None, float]:
        """The replica to which it goes, and for how long, in seconds."""
        with self._lock:
            entry = self._entries[key]
            return entry.replica, self._clock() - entry.chosen_s

    # --- what is known ----------------------------------------------------------------

    @property
    def states(self) -> dict[str, ReplicaState]:
        """Of those that have said anything, by name."""
        with self._lock:
            return {
                name: each.state
                for name, each in sorted(self._replicas.items())
                if each.state is not None
            }

    @property
    def num_replicas(self) -> int:
        with self._lock:
            return len(self._replicas)

    def _place(self, key: str) -> int | None:
        entry = self._entries.get(key)
        name = "" if entry is None else entry.replica or ""
        replica = self._replicas.get(name)
        return None if replica is None else replica.at

    def _go(self, entry: Entry, name: str, replica: _Replica) -> None:
        if entry.replica is not None and (before := self._replicas.get(entry.replica)) is not None:
            self._router.ended(before.at, entry.number)
        entry.replica, entry.chosen_s = name, self._clock()
        self._router.routed(
            replica.at, entry.number, entry.prints, entry.num_tokens, entry.num_answer
        )

    def _add(self, name: str) -> _Replica:
        node = RoutedNode(
            KnownPrefixes(_UNKNOWN_CELLS // BLOCK_TOKENS), _PROMPT_TOKEN_MS, _TOKEN_MS
        )
        if self._free:
            at = self._free.pop()
            self._router.nodes[at] = node
        else:
            at = len(self._router.nodes)
            self._router.nodes.append(node)
        replica = self._replicas[name] = _Replica(at)
        self._names[at] = name
        return replica

    def _remove(self, name: str) -> None:
        at = self._replicas.pop(name).at
        self._router.nodes[at].is_up = False
        del self._names[at]
        self._free.append(at)

    def _describe(self, replica: _Replica, state: ReplicaState) -> None:
        node, before = self._router.nodes[replica.at], replica.state
        replica.state = state
        node.is_up = _answers(replica)
        if before is None and state.info is not None:
            node.known = KnownPrefixes(state.info.kv_cells // BLOCK_TOKENS)
        others = (load for door, load in state.loads.items() if door != self.door)
        node.elsewhere = sum(others, Load())
        told = set() if before is None else set(before.prompts)
        for prints in unpacked(each for each in state.prompts if each not in told):
            self._router.learned(replica.at, prints)  # other doors' too
        if state.prompt_token_ms:
            node.prompt_token_ms = state.prompt_token_ms
        if state.token_ms:
            node.token_ms = state.token_ms


def _answers(replica: _Replica) -> bool:
    """Unless it has said that it does not, now."""
    return replica.state is None or replica.state.state is WorkerState.READY


_books: dict[str, Book] = {}


def book_of(deployment: str) -> Book:
    """The one of this process for a model's replicas: a door writes in it what Ray's router
    reads, whichever of them comes first.
    """
    return _books.setdefault(deployment, Book(Policy.LEAST_TOKENS))
