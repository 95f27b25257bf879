"""The measured fleet's own reckoning: what it reads of streams, and what it draws."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest

from appliance.cli.bench.stream import RequestFailed, StreamEvent
from appliance.fleet.demand import Demand
from appliance.fleet.routing import Policy
from bench.fleet import results, scale
from bench.fleet.asking import Answered, Doors, idle_reach_ms, outcome, read_events
from bench.fleet.results import Measured, NodeRecord
from tests.fleet.nodes import linear_node

TIMINGS = {"cache_n": 5, "prompt_ms": 30.0, "predicted_ms": 40.0}


def event(at_s: float, tokens: list[int], **more: object) -> StreamEvent:
    return StreamEvent(at_s, json.dumps({"tokens": tokens, **more}).encode())


def test_a_streams_tokens_and_times_are_read() -> None:
    events = [event(1.0, [7]), event(1.5, [8, 9]), event(1.6, [], timings=TIMINGS)]
    found = read_events(events, 3)
    assert (found.tokens, found.first_s, found.ended_s) == ([7, 8, 9], 1.0, 1.5)
    assert (found.cached, found.prompt_ms, found.answer_ms) == (5, 30.0, 40.0)
    with pytest.raises(RequestFailed, match="4 tokens were asked for, 3 came"):
        read_events(events, 4)
    with pytest.raises(RequestFailed, match="full"):
        read_events([StreamEvent(1.0, b'{"error": "full"}')], 1)


def answered(at_s: float, first_s: float) -> Answered:
    return Answered(
        node=0,
        arrived_s=at_s,
        first_s=first_s,
        total_s=first_s + 0.21,
        num_prompt_tokens=100,
        num_cached_tokens=0,
        prompt_ms=first_s * 1000 - 2,
        answer_ms=210.0,
        route_ms=0.1,
    )


def measured_fleet() -> Measured:
    """Five requests, of which each is answered before the next."""
    return Measured(
        date="2026-11-30",
        machine="paper",
        num_nodes=1,
        cores=1.0,
        policy=Policy.PREFIX,
        demand=Demand(requests_per_day=1, prompt_tokens=100, answer_tokens=11),
        per_s=0.001,
        seed=1,
        answers=[answered(100.0 * number, 0.12) for number in range(5)],
        nodes=[NodeRecord.of(linear_node(), reach_ms=0.0)],
    )


def test_what_was_measured_is_simulated_with_what_its_nodes_take(tmp_path: Path) -> None:
    measured_fleet().save(tmp_path / "a.json")
    found = results.load(tmp_path / "a.json")
    assert found == measured_fleet()
    assert found.tokens_per_s == pytest.approx(55 / 400.33)
    # 20 ms, and 1 for each of 100 rows; then ten of 21
    assert found.simulated().first_s(0.5) == pytest.approx(found.outcome.first_s(0.5))
    text = results.comparison(found)
    assert "1 nodes of 1 cores (paper, 2026-11-30), prefix" in text
    assert "first token p50 s" in text
    assert "first token outside of the engine: p50 2.00, p95 2.00 ms" in text


def test_a_fleet_whose_nodes_say_nothing_of_themselves_is_told_alone() -> None:
    text = results.comparison(msgspec.structs.replace(measured_fleet(), nodes=[]))
    assert "1 nodes of 1 cores" in text
    assert "simulated" not in text
    assert "first token p95 s  0.120" in text


def test_a_chat_keeps_its_door_unless_a_balancer_is_in_front() -> None:
    way = Doors(2)
    assert [way.choose(number, number // 2, [1], 1) for number in range(6)] == [0, 0, 1, 1, 0, 0]
    way = Doors(2, in_turn=True)
    assert [way.choose(number, number // 2, [1], 1) for number in range(4)] == [0, 1, 0, 1]


def test_reaching_a_node_is_measured_where_it_has_nothing_to_do() -> None:
    alone = [answered(100.0 * number, 0.12) for number in range(3)]
    waited = msgspec.structs.replace(answered(100.1, 0.3), prompt_ms=1.0)
    assert idle_reach_ms([*alone, waited]) == pytest.approx(2.0)
    assert idle_reach_ms(alone[:2]) is None


def test_the_first_fifth_counts_as_little_as_in_a_simulation() -> None:
    late_first = [answered(at_s, first_s) for at_s, first_s in ((9.0, 1.0), (0.0, 7.0))]
    assert [each.first_s for each in outcome(late_first, 1).served] == [1.0]


def test_of_many_nodes_the_parts_limits_are_told(tmp_path: Path) -> None:
    assumed = scale.Assumed(
        node_s=2.0, answer_tokens=100, door_request_ms=5.0, door_token_ms=0.05, head_node_ms=1.0
    )
    found = scale.limits(100, 0.5, assumed)
    assert (found.nodes, found.router, found.door) == (35.0, 2000.0, 100.0)
    assert (found.num_doors, found.head_share) == (1, 0.1)
    assert scale.limits(1000, 0.5, assumed).num_doors == 4
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        scale.draw([found], assumed, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert ET.fromstring(paths[0].read_text()).tag.endswith("svg")


def test_a_request_is_routed_by_every_policy() -> None:
    for policy in Policy:
        assert len(scale.route_times_ms(3, policy, 6)) == 6
