"""Where requests go, by each policy."""

from __future__ import annotations

import random

import pytest

from appliance.fleet.routing import (
    BLOCK_TOKENS,
    KnownPrefixes,
    Policy,
    RoutedNode,
    Router,
    fingerprints,
)

CHAT = list(range(10, 10 + 4 * BLOCK_TOKENS))
OTHER = [*CHAT[: 2 * BLOCK_TOKENS], 5, *CHAT[2 * BLOCK_TOKENS + 1 :]]


def router(policy: Policy, num_nodes: int = 3, *, most_blocks: int = 100) -> Router:
    nodes = [
        RoutedNode(KnownPrefixes(most_blocks), prompt_token_ms=1.0, token_ms=10.0)
        for _ in range(num_nodes)
    ]
    return Router(policy, nodes, random.Random(1))


def route(to: Router, request_id: int, tokens: list[int], num_answer: int = 10) -> int:
    prints = fingerprints(tokens)
    at = to.choose(prints, len(tokens))
    assert at is not None
    to.routed(at, request_id, prints, len(tokens), num_answer)
    return at


def test_a_fingerprint_is_of_all_tokens_up_to_its_blocks_end() -> None:
    prints = fingerprints([*CHAT, 1, 2])
    assert [len(each) for each in prints] == [8] * 4
    assert fingerprints(CHAT[:-1]) == prints[:3]
    others = fingerprints(OTHER)
    assert others[:2] == prints[:2]
    assert not set(others[2:]) & set(prints)


def test_a_known_prefix_draws_until_its_queue_costs_more() -> None:
    found = router(Policy.PREFIX)
    assert route(found, 1, CHAT) == 0
    found.ended(0, 1)
    assert route(found, 2, CHAT) == 0  # 256 tokens are known there
    # 2 of 4 blocks known, 10 ms for whoever is answered: 138 ms for 256 elsewhere
    assert route(found, 3, OTHER) == 0
    # now 128 tokens wait there too: 276 ms for 256
    assert route(found, 4, [*OTHER[:-1], 7]) == 0  # 3 of 4 blocks: 128 + 20 + 64
    assert route(found, 5, OTHER[: 2 * BLOCK_TOKENS] + [9] * 2 * BLOCK_TOKENS) == 1


def test_a_known_prefix_is_found_among_many_and_missed_when_its_node_is_gone() -> None:
    found = router(Policy.PREFIX, 1000)
    found.routed(700, 1, fingerprints(CHAT), len(CHAT), 10)
    found.ended(700, 1)
    assert found.choose(fingerprints(CHAT), len(CHAT)) == 700
    assert found.choose(fingerprints([1, *CHAT]), len(CHAT) + 1) == 0
    found.nodes[700].is_up = False
    assert found.choose(fingerprints(CHAT), len(CHAT)) == 0
    del found.nodes[500:]
    assert found.choose(fingerprints(CHAT), len(CHAT)) == 0


def test_what_is_computed_or_done_waits_no_more() -> None:
    found = router(Policy.LEAST_TOKENS, 2)
    assert [route(found, at, CHAT) for at in (1, 2, 3)] == [0, 1, 0]
    assert found.nodes[0].num_waiting_tokens == 256 + 10 + 0 + 10  # the second is known
    found.began(0, 1)
    assert found.nodes[0].num_waiting_tokens == 20
    found.ended(0, 1)
    found.ended(0, 3)
    assert found.nodes[0].num_waiting_tokens == 0
    assert route(found, 4, CHAT) == 0


def test_round_robin_takes_turns_among_those_that_are_up() -> None:
    found = router(Policy.ROUND_ROBIN)
    assert [route(found, at, CHAT) for at in range(4)] == [1, 2, 0, 1]
    found.nodes[1].is_up = False
    assert {route(found, at, CHAT) for at in range(4, 8)} == {0, 2}


def test_of_two_by_chance_the_one_with_less_to_do() -> None:
    found = router(Policy.RANDOM2, 2)
    assert route(found, 1, CHAT) == 0
    assert route(found, 2, CHAT) == 1


@pytest.mark.parametrize("policy", list(Policy))
def test_without_a_node_nothing_is_chosen(policy: Policy) -> None:
    found = router(policy, 1)
    found.nodes[0].is_up = False
    assert found.choose([], 10) is None


def test_the_oldest_prefix_is_forgotten_from_its_end() -> None:
    known = KnownPrefixes(6)
    prints, others = fingerprints(CHAT), fingerprints([3, *CHAT])
    known.add(prints)
    known.add(others)
    assert known.num_tokens(others) == 4 * BLOCK_TOKENS
    assert known.num_tokens(prints) == 2 * BLOCK_TOKENS
    known.clear()
    assert known.num_tokens(others) == 0
