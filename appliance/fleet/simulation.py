"""Some hours of a fleet, event by event: people ask, a router chooses, engines compute.

Knows no seconds but simulated ones. The engines are the real ones, with their cache and their
order; what their steps take was measured (`MeasuredNode`).
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from functools import partial

from appliance.engine.cache.keep_policy import KeepPolicy
from appliance.engine.engine import Engine
from appliance.engine.limits import Limits
from appliance.engine.outputs import Broken, Sampled
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import Capabilities
from appliance.errors import ApplianceError
from appliance.fleet.demand import Chat, Demand, Words, chats, random_words
from appliance.fleet.measured import MeasuredNode
from appliance.fleet.routing import (
    BLOCK_TOKENS,
    KnownPrefixes,
    Policy,
    RoutedNode,
    Router,
    fingerprints,
)
from appliance.fleet.simulated_runner import ANSWER, SimulatedRunner
from appliance.protocol.sampling import SamplingParams

_KEPT_IDS = 256  # sequences that may hold prefixes
_PACE_TOKENS = 512
_ENDLESS = 1 << 40  # tokens that may wait: refusing would hide how long they do
_GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)


@dataclass(frozen=True)
class Served:
    """One request that was answered, in simulated seconds."""

    node: int
    arrived_s: float
    first_s: float  # from its arrival to its first token
    total_s: float
    num_prompt_tokens: int
    num_cached_tokens: int


@dataclass
class Outcome:
    """Of one simulation."""

    served: list[Served] = field(default_factory=list)
    num_refused: int = 0
    busy_s: list[float] = field(default_factory=list)  # of each node
    span_s: float = 0.0

    def first_s(self, quantile: float) -> float:
        """Time to the first token that this share of the requests keep to."""
        return _quantile([each.first_s for each in self.served], quantile)

    def total_s(self, quantile: float) -> float:
        return _quantile([each.total_s for each in self.served], quantile)

    @property
    def cached_share(self) -> float:
        """Of the prompts' tokens."""
        num = sum(each.num_prompt_tokens for each in self.served)
        return sum(each.num_cached_tokens for each in self.served) / max(num, 1)

    @property
    def busy_share(self) -> float:
        return sum(self.busy_s) / max(self.span_s * len(self.busy_s), 1e-9)


@dataclass
class _Asked:
    chat: Chat
    node: int
    arrived_s: float
    num_prompt: int
    first_s: float = 0.0


class SimulatedNode:
    """An engine, its clock, and what it computed in how much time."""

    def __init__(self, measured: MeasuredNode, rng: random.Random) -> None:
        """By `rng` its steps scatter."""
        node = measured.node
        self._runner = SimulatedRunner(
            _capabilities(measured),
            measured.cost(),
            cell_bytes=node.memory.kv_bytes // node.kv_cells,
            scatter=measured.scatter,
            rng=rng,
        )
        limits = Limits(ctx=node.ctx, max_waiting_tokens=_ENDLESS, max_stall_ms=node.max_stall_ms)
        policy = KeepPolicy(
            max_cells=node.kept_cells,
            ttl_s=node.kept_s,
            max_host_bytes=node.host_bytes,
            max_slowdown=node.max_kept_slowdown,
        )
        self.engine = Engine(
            self._runner, limits, policy, clock=self._runner.clock, cost=measured.cost()
        )
        self._runner.num_scanned_cells = self._num_scanned
        self.reach_s = measured.reach_ms / 1000
        self._outside_s = measured.outside_ms / 1000
        self.busy_s = 0.0

    @property
    def now_s(self) -> float:
        return self._runner.now_s

    def _num_scanned(self, num_rows: int) -> int:
        """As the engine counts it when it learns from a step."""
        return max(self.engine.cells.num_scanned, self.engine.num_used_cells + num_rows)

    def wait_until(self, at_s: float) -> None:
        """Only while it has nothing to do."""
        self._runner.now_s = max(self._runner.now_s, at_s)

    def step(self) -> list[Sampled | Broken]:
        """What it brought to requests, but how far prompts are."""
        started_s, num_steps = self.now_s, self.engine.num_steps
        outputs = self.engine.step()
        self._runner.wait((self.engine.num_steps - num_steps) * self._outside_s)
        self.busy_s += self.now_s - started_s
        return [output for output in outputs if isinstance(output, Sampled | Broken)]


class Simulation:
    """`demand` on `nodes`, so many of its requests a second."""

    def __init__(
        self,
        demand: Demand,
        nodes: Seq[MeasuredNode],
        policy: Policy,
        *,
        per_s: float,
        seed: int = 1,
        words: Words = random_words,
        chance: int = 0,
    ) -> None:
        """What people do follows from `seed`, and how long steps take also from `chance`."""
        self._demand = demand
        self._nodes = [
            SimulatedNode(node, random.Random(f"{chance} {number}"))
            for number, node in enumerate(nodes)
        ]
        self._router = Router(policy, [routed_node(node) for node in nodes], random.Random(seed))
        self._chats = chats(demand, per_s, seed, words)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._num_left = 0  # requests to be asked
        self._order = itertools.count()
        self._asked: dict[int, _Asked] = {}
        self._outcome = Outcome()

    def run(self, num_requests: int) -> Outcome:
        """Until so many have been asked, and all of them answered; the first fifth, in which
        caches fill, is left out.
        """
        self._num_left, num_before = num_requests, num_requests // 5
        self._next_chat()
        while self._events or any(node.engine.has_work for node in self._nodes):
            at_s = self._events[0][0] if self._events else float("inf")
            behind = self._furthest_behind(at_s)
            if behind is not None:
                self._step(behind)
                continue
            _, _, happen = heapq.heappop(self._events)
            happen(at_s)
        found = self._outcome
        found.served = sorted(found.served, key=lambda each: each.arrived_s)[num_before:]
        found.busy_s = [node.busy_s for node in self._nodes]
        found.span_s = max(node.now_s for node in self._nodes)
        return found

    def _furthest_behind(self, before_s: float) -> int | None:
        """The node whose next step begins first, if that is before `before_s`."""
        working = [at for at, node in enumerate(self._nodes) if node.engine.has_work]
        if not working:
            return None
        at = min(working, key=lambda at: self._nodes[at].now_s)
        return at if self._nodes[at].now_s < before_s else None

    def _next_chat(self) -> None:
        at_s, chat = next(self._chats)
        self._later(at_s, partial(self._ask, chat))

    def _later(self, at_s: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), happen))

    def _ask(self, chat: Chat, at_s: float) -> None:
        if not self._num_left:
            return  # those who wait are still answered: they waited longest
        self._num_left -= 1
        if chat.num_left == self._demand.turns:
            self._next_chat()
        chat.ask(self._demand)
        prints = fingerprints(chat.tokens)
        chosen = self._router.choose(prints, len(chat.tokens))
        assert chosen is not None
        request_id = next(self._order)
        self._router.routed(
            chosen, request_id, prints, len(chat.tokens), self._demand.answer_tokens
        )
        self._asked[request_id] = _Asked(chat, chosen, at_s, len(chat.tokens))
        self._later(at_s + self._nodes[chosen].reach_s, partial(self._arrive, request_id))

    def _arrive(self, request_id: int, at_s: float) -> None:
        """At the engine of its node."""
        asked = self._asked[request_id]
        node = self._nodes[asked.node]
        if not node.engine.has_work:
            node.wait_until(at_s)
        request = EngineRequest(
            request_id=request_id,
            prompt=[*asked.chat.tokens],
            sampling=_GREEDY,
            max_new_tokens=self._demand.answer_tokens,
        )
        try:
            node.engine.submit(request)
        except ApplianceError:
            self._refuse(request_id)

    def _refuse(self, request_id: int) -> None:
        self._router.ended(self._asked.pop(request_id).node, request_id)
        self._outcome.num_refused += 1

    def _step(self, at: int) -> None:
        node = self._nodes[at]
        for output in node.step():
            asked = self._asked[output.request_id]
            if isinstance(output, Broken):
                self._refuse(output.request_id)
                continue
            if output.num_new_tokens == 1:
                asked.first_s = node.now_s - asked.arrived_s
                self._router.began(at, output.request_id)
            if output.finish_reason is not None:
                self._end(output, asked, node.now_s)

    def _end(self, output: Sampled, asked: _Asked, now_s: float) -> None:
        self._router.ended(asked.node, output.request_id)
        del self._asked[output.request_id]
        self._outcome.served.append(
            Served(
                node=asked.node,
                arrived_s=asked.arrived_s,
                first_s=asked.first_s,
                total_s=now_s - asked.arrived_s,
                num_prompt_tokens=asked.num_prompt,
                num_cached_tokens=output.num_cached_tokens,
            )
        )
        chat = asked.chat
        chat.tokens += [ANSWER] * self._demand.answer_tokens
        if chat.num_left:
            self._later(now_s + chat.think_s(self._demand), partial(self._ask, chat))


def routed_node(measured: MeasuredNode) -> RoutedNode:
    """What a router has to know of it."""
    cost = measured.cost()
    token_ms = cost.estimate_ms(cost.shape(1, _PACE_TOKENS, _PACE_TOKENS))
    assert token_ms is not None
    return RoutedNode(
        KnownPrefixes(measured.node.kept_cells // BLOCK_TOKENS),
        prompt_token_ms=cost.prefill_ms(0, _PACE_TOKENS) / _PACE_TOKENS,
        token_ms=token_ms,
    )


def _capabilities(measured: MeasuredNode) -> Capabilities:
    node = measured.node
    return Capabilities(
        num_cells=node.kv_cells,
        num_slots=node.slots,
        first_kept_id=node.slots + 1,
        num_sequence_ids=node.slots + 1 + _KEPT_IDS,
        max_rows=node.max_rows,
        num_vocab=1 << 30,
        end_tokens=frozenset(),
        attention=measured.attention,
        max_logit_rows=node.slots + 1,
    )


def _quantile(values: Seq[float], quantile: float) -> float:
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]
