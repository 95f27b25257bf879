"""A fleet whose steps take what a formula says does what can be counted by hand."""

from __future__ import annotations

import dataclasses
import itertools
import statistics

import msgspec
import pytest

from appliance.errors import BadSettings
from appliance.fleet.capacity import (
    Target,
    bill,
    nodes_on_paper,
    plan,
    seconds_per_request,
    tokens_per_s,
)
from appliance.fleet.demand import DAY_S, Demand, chats
from appliance.fleet.routing import Policy
from appliance.fleet.simulation import Outcome, Simulation
from appliance.protocol.measured_node import NodeMemory
from tests.fleet.nodes import linear_node

ALONE = Demand(requests_per_day=DAY_S / 1000, prompt_tokens=100, answer_tokens=11, peak=1.0)
CHATS = Demand(
    requests_per_day=40_000,
    prompt_tokens=60,
    answer_tokens=10,
    turns=5,
    system_tokens=200,
    think_s=5.0,
)


def simulated(
    demand: Demand, num_nodes: int, policy: Policy, per_s: float, num_requests: int = 100
) -> Outcome:
    nodes = [linear_node()] * num_nodes
    return Simulation(demand, nodes, policy, per_s=per_s).run(num_requests)


def test_a_request_alone_takes_its_steps_and_no_more() -> None:
    outcome = simulated(ALONE, 1, Policy.PREFIX, ALONE.peak_per_s, 5)
    assert len(outcome.served) == 4  # the first fifth is left out
    for each in outcome.served:
        assert each.first_s == pytest.approx(0.120)  # 20 + 100 ms
        assert each.total_s == pytest.approx(0.120 + 10 * 0.021)
    assert outcome.cached_share == 0
    assert outcome.num_refused == 0


def test_what_is_not_computing_is_counted_too() -> None:
    """7 ms to the engine and back, and 1 ms beside each of a prompt's one and ten steps."""
    node = dataclasses.replace(linear_node(), reach_ms=7.0, outside_ms=1.0)
    for each in Simulation(ALONE, [node], Policy.PREFIX, per_s=0.001).run(5).served:
        assert each.first_s == pytest.approx(0.007 + 0.121)
        assert each.total_s == pytest.approx(0.007 + 0.121 + 10 * 0.022)


def test_steps_scatter_as_they_were_measured_to() -> None:
    node = dataclasses.replace(linear_node(), scatter=0.2)

    def first_s(chance: int) -> list[float]:
        simulation = Simulation(ALONE, [node], Policy.PREFIX, per_s=0.001, chance=chance)
        return [each.first_s for each in simulation.run(50).served]

    times = first_s(0)
    assert times == first_s(0) != first_s(1)
    assert statistics.stdev(times) == pytest.approx(0.2 * 0.120, rel=0.25)


def test_who_waits_when_the_last_one_asks_is_answered_too() -> None:
    """Or those who waited longest would not count."""
    outcome = simulated(ALONE, 1, Policy.PREFIX, 50.0, 100)  # it can do 8 a second
    assert len(outcome.served) == 80
    assert outcome.first_s(0.95) > 5.0


def test_turns_find_what_was_said_before() -> None:
    outcome = simulated(CHATS, 1, Policy.PREFIX, 0.2)
    assert CHATS.mean_prompt_tokens == 200 + 2 * 70 + 60
    assert CHATS.known_share == pytest.approx(1 - 61 / 400)
    assert outcome.cached_share == pytest.approx(CHATS.known_share, abs=0.02)


def test_routing_by_prefix_computes_less_than_taking_turns() -> None:
    shares = {
        policy: simulated(CHATS, 4, policy, 4.0, 200).cached_share
        for policy in (Policy.PREFIX, Policy.ROUND_ROBIN)
    }
    assert shares[Policy.PREFIX] > shares[Policy.ROUND_ROBIN] + 0.1


def test_the_same_seed_is_the_same_day() -> None:
    first, second = (simulated(CHATS, 2, Policy.RANDOM2, 1.0) for _ in range(2))
    assert first.served == second.served


def test_what_is_said_and_when_does_not_depend_on_the_fleet() -> None:
    """So a measured fleet and a simulated one are asked the same."""

    def day() -> list[tuple[float, list[int], float]]:
        found = []
        for at_s, chat in itertools.islice(chats(CHATS, 2.0, seed=7), 3):
            chat.ask(CHATS)
            found.append((at_s, chat.tokens, chat.think_s(CHATS)))
        return found

    assert day() == day()
    assert [len(tokens) for _, tokens, _ in day()] == [260] * 3


def test_prefixes_that_leave_the_cache_come_back_from_host_memory() -> None:
    """As many as fit there, at what a cell takes."""
    memory = NodeMemory(total_bytes=1, kv_bytes=1000 * 2048)
    small = linear_node(kv_cells=2048, kept_cells=0)
    node = msgspec.structs.replace(small.node, memory=memory, host_bytes=10_000_000)
    shares = []
    for each in (small, dataclasses.replace(small, node=node)):
        outcome = Simulation(CHATS, [each], Policy.PREFIX, per_s=0.2).run(40)
        shares.append(outcome.cached_share)
    assert shares[0] < 0.1
    assert shares[1] == pytest.approx(CHATS.known_share, abs=0.05)


def test_on_paper_a_request_is_its_new_tokens_and_its_share_of_steps() -> None:
    node = linear_node()
    demand = Demand(requests_per_day=DAY_S * 4, prompt_tokens=236, answer_tokens=100, peak=2.5)
    # 256 ms for the prompt in a step of 236 rows, 24 ms for each step of four answers
    assert seconds_per_request(demand, node) == pytest.approx(0.256 + 100 * 0.024 / 4, rel=0.01)
    assert nodes_on_paper(demand, node) == 13  # 10 a second, 0.856 s each, 0.7 of a node
    assert tokens_per_s(node, 1, 100) == pytest.approx(1000 / 21)
    assert tokens_per_s(node, 4, 100) == pytest.approx(4000 / 24)


def test_the_least_number_that_keeps_the_promise_is_found() -> None:
    demand = Demand(requests_per_day=DAY_S, prompt_tokens=236, answer_tokens=20, peak=5.0)
    found = plan(demand, linear_node(), Target(first_s=1.0), Policy.LEAST_TOKENS)
    chosen = found.chosen
    assert chosen.suffices
    assert [each.suffices for each in found.tried] == sorted(each.suffices for each in found.tried)
    assert chosen.outcome.first_s(0.95) <= 1.0
    before = [each for each in found.tried if each.num_nodes == chosen.num_nodes - 1]
    assert [each.suffices for each in before] == [False]
    day = bill(chosen.num_nodes, price_per_hour=0.05, watts=30.0, gco2_per_kwh=400.0)
    assert day.node_hours == 24 * chosen.num_nodes
    assert day.cost == pytest.approx(1.2 * chosen.num_nodes)
    assert day.kwh == pytest.approx(0.72 * chosen.num_nodes)
    assert day.gco2e_kg == pytest.approx(0.288 * chosen.num_nodes)
    assert bill(1, price_per_hour=None, watts=None, gco2_per_kwh=400.0).gco2e_kg is None


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        (
            Demand(requests_per_day=1, prompt_tokens=2000, answer_tokens=100, turns=2),
            "has 4200 tokens with its answer, but linear-Q8_0 is served with 4096",
        ),
        (
            Demand(requests_per_day=1, prompt_tokens=2000, answer_tokens=100),
            "first prompt alone takes .* longer than the 1 s",
        ),
        (
            Demand(requests_per_day=1e12, prompt_tokens=100, answer_tokens=10),
            r"On paper that takes [\d,]{9,} nodes, and more than 100,000 are not simulated",
        ),
    ],
)
def test_what_no_number_of_nodes_can_do_is_said(demand: Demand, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        plan(demand, linear_node(), Target(first_s=1.0), Policy.PREFIX)
