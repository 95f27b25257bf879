"""People who chat with a fleet: they ask when a simulation's people would, a `Way` sends them
where a fleet's would, and what each answer took is written down.

Knows no process. The client computes on the nodes' cores, so it does little.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from appliance.cli.bench.stream import Endpoint, RequestFailed, StreamEvent, now_s
from appliance.fleet.demand import Chat, Demand, Words, chats
from appliance.fleet.measured import MeasuredNode
from appliance.fleet.routing import Policy, Router, fingerprints
from appliance.fleet.simulation import Outcome, Served, routed_node

PATH = "/completion"  # llama-server's: it takes token ids, and tells those of the answer


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its client saw it, and what the node says of it."""

    node: int  # or the door that was asked, where doors route
    arrived_s: float  # since the beginning
    first_s: float  # from then on
    total_s: float
    num_prompt_tokens: int
    num_cached_tokens: int
    # of the node's engine: from the request's acceptance to its first token, and from there on
    prompt_ms: float
    answer_ms: float
    route_ms: float  # that the router took for it
    chat: int = -1  # of which it is a turn, by when they began

    @property
    def served(self) -> Served:
        return Served(
            node=self.node,
            arrived_s=self.arrived_s,
            first_s=self.first_s,
            total_s=self.total_s,
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens,
        )

    @property
    def outside_first_ms(self) -> float:
        """What the first token took outside of the engine: HTTP, the parent, the tokenizer, and
        the rest of a step that was being computed.
        """
        return self.first_s * 1000 - self.prompt_ms


def idle_reach_ms(answers: Sequence[Answered]) -> float | None:
    """What the first token took outside of the engine, at the median of the requests that found
    their node with nothing to do; None where fewer than three did.
    """
    ends_s: dict[int, float] = {}
    found = []
    for each in sorted(answers, key=lambda each: each.arrived_s):
        if each.arrived_s >= ends_s.get(each.node, 0.0):
            found.append(each.outside_first_ms)
        ended_s = each.arrived_s + each.total_s
        ends_s[each.node] = max(ends_s.get(each.node, 0.0), ended_s)
    return statistics.median(found) if len(found) > 2 else None


def outcome(answers: Sequence[Answered], num_before: int) -> Outcome:
    """As of a simulation, without the first ones."""
    ordered = sorted((each.served for each in answers), key=lambda each: each.arrived_s)
    return Outcome(served=ordered[num_before:])


@dataclass(frozen=True)
class TokenEvents:
    """What a stream told."""

    tokens: list[int]
    first_s: float
    ended_s: float
    cached: int
    prompt_ms: float
    answer_ms: float


def read_events(events: Sequence[StreamEvent], num_answer: int) -> TokenEvents:
    """Raises `RequestFailed` where it is an error, or another number of tokens."""
    tokens: list[int] = []
    first_s = ended_s = 0.0
    timings: dict[str, float] = {}
    for event in events:
        record = json.loads(event.data)
        if "error" in record:
            raise RequestFailed(str(record["error"])[:500])
        if record["tokens"]:
            first_s, ended_s = first_s or event.arrived_s, event.arrived_s
            tokens += record["tokens"]
        timings = record.get("timings") or timings
    if len(tokens) != num_answer or not timings:
        raise RequestFailed(f"{num_answer} tokens were asked for, {len(tokens)} came")
    return TokenEvents(
        tokens=tokens,
        first_s=first_s,
        ended_s=ended_s,
        cached=int(timings["cache_n"]),
        prompt_ms=timings["prompt_ms"],
        answer_ms=timings["predicted_ms"],
    )


class Way(Protocol):
    """To which endpoint each request goes."""

    def choose(self, request_id: int, chat: int, prompt: list[int], num_answer: int) -> int: ...

    def began(self, at: int, request_id: int) -> None:
        """Its first token has come."""

    def ended(self, at: int, request_id: int) -> None: ...


class RoutedHere:
    """By a router of the client's own, to nodes of which `known` was measured before."""

    def __init__(self, policy: Policy, known: Sequence[MeasuredNode], seed: int) -> None:
        self._router = Router(policy, [routed_node(node) for node in known], random.Random(seed))

    def choose(self, request_id: int, chat: int, prompt: list[int], num_answer: int) -> int:
        del chat
        prints = fingerprints(prompt)
        at = self._router.choose(prints, len(prompt))
        assert at is not None, "all nodes are up"
        self._router.routed(at, request_id, prints, len(prompt), num_answer)
        return at

    def began(self, at: int, request_id: int) -> None:
        self._router.began(at, request_id)

    def ended(self, at: int, request_id: int) -> None:
        self._router.ended(at, request_id)


class Doors:
    """Of a fleet that routes itself: each chat has one door, as a client has an address; or
    each request, as behind a balancer.
    """

    def __init__(self, num: int, *, in_turn: bool = False) -> None:
        self._num = num
        self._in_turn = in_turn

    def choose(self, request_id: int, chat: int, prompt: list[int], num_answer: int) -> int:
        del prompt, num_answer
        return (request_id if self._in_turn else chat) % self._num

    def began(self, at: int, request_id: int) -> None:
        """Doors know that."""

    def ended(self, at: int, request_id: int) -> None:
        """And that."""


class Asking:
    """`demand` of what is at `endpoints`, so many requests a second."""

    def __init__(
        self,
        demand: Demand,
        endpoints: Sequence[Endpoint],
        way: Way,
        *,
        words: Words,
        seed: int = 1,
    ) -> None:
        self._demand = demand
        self._endpoints = endpoints
        self._way = way
        self._words = words
        self._seed = seed
        self._ids = itertools.count()
        self._num_left = 0
        self._begun_s = 0.0
        self._answers: list[Answered] = []

    async def run(self, num_requests: int, per_s: float) -> list[Answered]:
        """Until so many have been asked, and all of them answered. Raises `RequestFailed`."""
        self._num_left, self._begun_s = num_requests, now_s()
        tasks: list[asyncio.Task[None]] = []
        for at_s, chat in chats(self._demand, per_s, self._seed, self._words):
            await asyncio.sleep(max(self._begun_s + at_s - now_s(), 0.0))
            if not self._num_left:
                break
            tasks.append(asyncio.create_task(self._chat(len(tasks), chat)))
        await asyncio.gather(*tasks)
        return self._answers

    async def _chat(self, number: int, chat: Chat) -> None:
        while chat.num_left and self._num_left:
            self._num_left -= 1
            chat.ask(self._demand)
            chat.tokens += await self._ask(number, chat.tokens)
            if chat.num_left:
                await asyncio.sleep(chat.think_s(self._demand))

    async def _ask(self, chat: int, prompt: list[int]) -> list[int]:
        request_id, num_answer = next(self._ids), self._demand.answer_tokens
        asked_s = now_s()
        at = self._way.choose(request_id, chat, prompt, num_answer)
        routed_s = now_s()

        def came(num_events: int) -> None:
            if num_events == 1:
                self._way.began(at, request_id)

        wanted = {
            "prompt": prompt,
            "n_predict": num_answer,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        events = await self._endpoints[at].post(PATH, wanted, f"request {request_id}", came)
        self._way.ended(at, request_id)
        found = read_events(events, num_answer)
        self._answers.append(
            Answered(
                node=at,
                arrived_s=asked_s - self._begun_s,
                first_s=found.first_s - asked_s,
                total_s=found.ended_s - asked_s,
                num_prompt_tokens=len(prompt),
                num_cached_tokens=found.cached,
                prompt_ms=found.prompt_ms,
                answer_ms=found.answer_ms,
                route_ms=(routed_s - asked_s) * 1000,
                chat=chat,
            )
        )
        return found.tokens
