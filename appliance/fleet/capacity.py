"""How many nodes a load needs, and what they cost.

Knows no file and no terminal. By a formula first, as on paper: requests times tokens times
seconds for a token. Then the busiest hour is simulated, for queues are what a formula does
not know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from appliance.errors import BadSettings
from appliance.fleet.demand import DAY_S, Demand
from appliance.fleet.measured import MeasuredNode
from appliance.fleet.routing import Policy
from appliance.fleet.simulation import Outcome, Simulation

_FULL = 0.7  # of a node's time may be used up on paper: beyond it, queues grow
_REQUESTS = 200  # that are simulated, and
_REQUESTS_OF_NODE = 40  # for each node more
_MOST_SIMULATED = 16  # nodes: of more, so many with their share of the load
_MOST_NODES = 100_000


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the users of the busiest hour are promised."""

    first_s: float  # to the first token
    quantile: float = 0.95  # of the requests


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A number of nodes, and how the busiest hour went with them."""

    num_nodes: int
    num_simulated: int
    outcome: Outcome
    suffices: bool


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The answer."""

    on_paper: int  # nodes
    seconds_per_request: float  # of one node, if it computes as many at once as it can
    tried: tuple[Tried, ...]  # in order of their number

    @property
    def chosen(self) -> Tried:
        """The least that suffices."""
        return next(tried for tried in self.tried if tried.suffices)


def seconds_per_request(demand: Demand, node: MeasuredNode) -> float:
    """Of a node's time, on the mean, with all slots taken: what is not known of its prompt, and
    its share of each step of its answer.
    """
    cost = node.cost()
    num_new = demand.mean_prompt_tokens * (1 - demand.known_share)
    length = int(demand.mean_prompt_tokens + demand.answer_tokens / 2)
    prompt_ms = cost.prefill_ms(int(length - num_new), length)
    token_ms = 1000 / tokens_per_s(node, node.node.slots, length)
    return (prompt_ms + demand.answer_tokens * token_ms) / 1000


def nodes_on_paper(demand: Demand, node: MeasuredNode) -> int:
    """Nodes for the busiest hour."""
    return max(math.ceil(demand.peak_per_s * seconds_per_request(demand, node) / _FULL), 1)


def plan(demand: Demand, node: MeasuredNode, target: Target, policy: Policy) -> Capacity:
    """Nodes like `node` for `demand`.

    Raises `BadSettings` where one request alone does not fit a node, or takes longer than the
    target.
    """
    about = node.node
    if demand.longest > about.ctx:
        raise BadSettings(
            f"The last turn of a chat has {demand.longest} tokens with its answer, but "
            f"{about.model} is served with {about.ctx}. Give shorter turns, or measure it with a "
            "larger --ctx."
        )
    alone_s = node.cost().prefill_ms(0, demand.system_tokens + demand.prompt_tokens) / 1000
    if alone_s > target.first_s:
        raise BadSettings(
            f"A chat's first prompt alone takes {alone_s:.2f} s on such a node, longer than the "
            f"{target.first_s:g} s that were asked for. No number of nodes changes that."
        )
    on_paper = nodes_on_paper(demand, node)
    if on_paper > _MOST_NODES:
        raise BadSettings(
            f"On paper that takes {on_paper:,} nodes, and more than {_MOST_NODES:,} are not "
            "simulated. Check the numbers."
        )
    tried: dict[int, Tried] = {}
    number = on_paper
    while True:
        tried[number] = _try(demand, node, number, target, policy)
        following = _next(number, tried)
        if following is None:
            break
        number = following
    return Capacity(
        on_paper=on_paper,
        seconds_per_request=seconds_per_request(demand, node),
        tried=tuple(tried[number] for number in sorted(tried)),
    )


def _next(number: int, tried: dict[int, Tried]) -> int | None:
    """Between the largest number that was too small and the smallest that was not; None once
    these follow one another.
    """
    too_small = max((n for n, each in tried.items() if not each.suffices), default=0)
    enough = min((n for n, each in tried.items() if each.suffices), default=None)
    if enough is None:
        if number >= _MOST_NODES:
            raise BadSettings(f"Not even {number} nodes suffice. Check the numbers.")
        return number + max(number // 4, 1)
    # within a twentieth is near enough: a simulation is no more exact
    if enough - too_small <= max(enough // 20, 1):
        return None
    return (too_small + enough) // 2 if too_small else enough - max(enough // 4, 1)


def _try(demand: Demand, node: MeasuredNode, number: int, target: Target, policy: Policy) -> Tried:
    num_simulated = min(number, _MOST_SIMULATED)
    per_s = demand.peak_per_s * num_simulated / number
    simulation = Simulation(demand, [node] * num_simulated, policy, per_s=per_s)
    outcome = simulation.run(_REQUESTS + _REQUESTS_OF_NODE * num_simulated)
    keeps = outcome.first_s(target.quantile) <= target.first_s
    return Tried(
        num_nodes=number,
        num_simulated=num_simulated,
        outcome=outcome,
        suffices=keeps and not outcome.num_refused,
    )


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Of a day, with all nodes running."""

    node_hours: float
    cost: float | None  # None where no price was given
    kwh: float | None
    gco2e_kg: float | None


def bill(
    num_nodes: int,
    *,
    price_per_hour: float | None,
    watts: float | None,
    gco2_per_kwh: float | None,
) -> Bill:
    """What so many nodes take in a day; `watts` of each."""
    hours = num_nodes * DAY_S / 3600
    kwh = None if watts is None else hours * watts / 1000
    return Bill(
        node_hours=hours,
        cost=None if price_per_hour is None else hours * price_per_hour,
        kwh=kwh,
        gco2e_kg=None if kwh is None or gco2_per_kwh is None else kwh * gco2_per_kwh / 1000,
    )


def tokens_per_s(node: MeasuredNode, num_streams: int, length: int) -> float:
    """Of so many answers together, each `length` tokens in."""
    cost, num_cells = node.cost(), num_streams * length
    step_ms = cost.estimate_ms(cost.shape(num_streams, num_cells, num_cells))
    assert step_ms is not None, "a cost model that has seen nothing is none"
    return num_streams * 1000 / step_ms
