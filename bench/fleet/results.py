"""What one measured fleet gave, as a file; and the same day simulated beside it.

Knows no process. Every figure is of the same `Outcome`, measured or simulated.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.cli.tables.table import table
from appliance.engine.cost import AttentionCost
from appliance.fleet.demand import Demand
from appliance.fleet.measured import REACH_MS, MeasuredNode
from appliance.fleet.routing import Policy
from appliance.fleet.simulation import Outcome, Simulation
from appliance.protocol.measured_node import NodeDescription
from bench.fleet.asking import Answered, outcome


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A `MeasuredNode`, as it was when its node had stopped."""

    node: NodeDescription
    attention: AttentionCost
    steps: dict[str, list[float]]
    scatter: float = 0.0
    outside_ms: float = 0.0
    reach_ms: float = REACH_MS

    @classmethod
    def of(cls, measured: MeasuredNode, reach_ms: float = REACH_MS) -> NodeRecord:
        """`reach_ms`: as its client saw it, see `idle_reach_ms`."""
        return cls(
            node=measured.node,
            attention=measured.attention,
            steps=measured.steps,
            scatter=measured.scatter,
            outside_ms=measured.outside_ms,
            reach_ms=reach_ms,
        )

    @property
    def measured(self) -> MeasuredNode:
        return MeasuredNode(
            node=self.node,
            attention=self.attention,
            steps=self.steps,
            scatter=self.scatter,
            outside_ms=self.outside_ms,
            reach_ms=self.reach_ms,
        )


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One fleet under one load."""

    date: str
    machine: str
    num_nodes: int
    cores: float  # of each node
    policy: Policy
    demand: Demand
    per_s: float
    seed: int
    answers: list[Answered]
    nodes: list[NodeRecord]  # none, of a fleet on Ray

    @property
    def num_before(self) -> int:
        """As in a simulation: requests in which caches fill."""
        return len(self.answers) // 5

    @property
    def outcome(self) -> Outcome:
        return outcome(self.answers, self.num_before)

    @property
    def tokens_per_s(self) -> float:
        """Of all answers, from the first request to the last answer's end."""
        span_s = max(each.arrived_s + each.total_s for each in self.answers)
        return len(self.answers) * self.demand.answer_tokens / span_s

    def simulated(self, chance: int = 0) -> Outcome:
        """The same requests, of nodes that take what these said."""
        nodes = [each.measured for each in self.nodes]
        simulation = Simulation(
            self.demand, nodes, self.policy, per_s=self.per_s, seed=self.seed, chance=chance
        )
        return simulation.run(len(self.answers))

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))


def load(path: Path) -> Measured:
    return msgspec.json.decode(path.read_bytes(), type=Measured)


_CHANCES = 5  # a day that is simulated again, with other chances of its steps

FIGURES = {
    "first token p50 s": lambda of: of.first_s(0.5),
    "first token p95 s": lambda of: of.first_s(0.95),
    "answer p50 s": lambda of: of.total_s(0.5),
    "answer p95 s": lambda of: of.total_s(0.95),
    "cached share": lambda of: of.cached_share,
}


def comparison(measured: Measured) -> str:
    """Measured beside simulated; alone where the nodes kept to themselves what they measured."""
    figures = _figures(measured) if measured.nodes else _figures_alone(measured)
    return "\n".join([_title(measured), "", *figures, "", *_rest(measured)])


def _title(measured: Measured) -> str:
    demand = measured.demand
    return (
        f"{measured.num_nodes} nodes of {measured.cores:g} cores ({measured.machine}, "
        f"{measured.date}), {measured.policy.value}, {measured.per_s:g} requests/s, "
        f"{len(measured.answers)} requests: system {demand.system_tokens}, turns {demand.turns}, "
        f"prompt {demand.prompt_tokens}, answer {demand.answer_tokens}, think {demand.think_s:g} s"
    )


def _figures(measured: Measured) -> Iterator[str]:
    real = measured.outcome
    simulated = [measured.simulated(chance) for chance in range(_CHANCES)]
    rows = [("", "measured", f"simulated, median of {_CHANCES}", "least, most", "ratio")]
    for name, figure in FIGURES.items():
        ours, theirs = figure(real), sorted(figure(each) for each in simulated)
        middle, ends = statistics.median(theirs), f"{theirs[0]:.3f}, {theirs[-1]:.3f}"
        ratio = f"{middle / ours:.2f}" if ours else ""
        rows.append((name, f"{ours:.3f}", f"{middle:.3f}", ends, ratio))
    yield table(rows)


def _figures_alone(measured: Measured) -> Iterator[str]:
    real = measured.outcome
    yield table([(name, f"{figure(real):.3f}") for name, figure in FIGURES.items()])


def _rest(measured: Measured) -> Iterator[str]:
    answers = measured.answers
    outside = sorted(each.outside_first_ms for each in answers)
    routes = sorted(each.route_ms for each in answers)
    yield f"{measured.tokens_per_s:.1f} tokens/s"
    yield f"first token outside of the engine: {_spread(outside)} ms"
    if measured.nodes:
        yield f"reaching an idle node: {measured.nodes[0].reach_ms:.2f} ms"
    yield f"router: {_spread(routes)} ms"


def _spread(ordered: list[float]) -> str:
    middle, most = ordered[len(ordered) // 2], ordered[int(0.95 * len(ordered))]
    return f"p50 {middle:.2f}, p95 {most:.2f}"
