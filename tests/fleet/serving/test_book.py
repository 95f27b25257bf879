"""To which replica a request goes, as a door has it in its book."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from appliance.fleet.routing import Load, Policy, fingerprints
from appliance.fleet.serving.book import Book, Entry, book_of
from appliance.fleet.serving.wire import ReplicaState
from appliance.protocol.health import WorkerState

READY = ReplicaState(node="n", state=WorkerState.READY)
LONG = fingerprints([*range(640)])
OTHER = fingerprints([*range(1000, 1640)])


def book(policy: Policy = Policy.PREFIX, names: Sequence[str] = ("a", "b", "c")) -> Book:
    made = Book(policy)
    made.replicas_are(dict.fromkeys(names, READY))
    return made


def ask(
    made: Book, key: str, prints: Sequence[bytes] = (), *, excluded: tuple[str, ...] = ()
) -> list[str]:
    made.expect(key, Entry(prints, len(prints) * 64, 10, excluded))
    return made.ranked(key, ["a", "b", "c"])


def test_the_next_turn_goes_where_the_first_one_went() -> None:
    made = book()
    assert ask(made, "1", LONG)[0] == "a"
    made.ended("1")
    assert ask(made, "2", OTHER)[0] == "a"  # nothing waits anywhere, and nobody knows it
    made.ended("2")
    assert ask(made, "3", LONG)[0] == "a"


def test_what_another_door_sent_somewhere_is_known_when_the_replica_has_told_it() -> None:
    made = book()
    told = ReplicaState(node="n", state=WorkerState.READY, prompts=(b"".join(LONG[:6]),))
    made.replicas_are({"a": READY, "b": told, "c": READY})
    assert ask(made, "1", LONG)[0] == "b"
    assert ask(made, "2", OTHER)[0] == "a"


def test_what_other_doors_have_at_a_replica_counts() -> None:
    made = book()
    busy = {
        "another": Load(num_requests=2, num_prompt_tokens=900, num_answer_tokens=100),
        made.door: Load(num_requests=9, num_prompt_tokens=9000, num_answer_tokens=100),
    }
    told = ReplicaState(node="n", state=WorkerState.READY, loads=busy)
    made.replicas_are({"a": told, "b": READY, "c": READY})
    assert ask(made, "1", LONG)[0] == "b"
    # 640 tokens and 5 ms each wait there now, and there is as much of others at a
    assert ask(made, "2", OTHER)[0] == "c"
    assert ask(made, "3", LONG)[0] == "b"  # 640 wait, but all of its own is known


def test_of_equals_the_nearest_is_taken() -> None:
    for policy in (Policy.PREFIX, Policy.LEAST_TOKENS):
        made = Book(policy)
        made.replicas_are(dict.fromkeys(("a", "b", "c"), READY), nearest="b")
        assert ask(made, "1", LONG)[0] == "b"
        assert ask(made, "2", OTHER)[0] == "a"  # for something waits there
        made.route_by(policy)
        made.ended("1")
        assert ask(made, "3")[0] == "b"
        made.replicas_are(dict.fromkeys(("a", "c"), READY), nearest="b")
        made.ended("2")
        assert ask(made, "4")[0] == "a"


def test_questions_go_to_the_nearest_and_take_nobodys_turn() -> None:
    made = Book(Policy.ROUND_ROBIN)
    made.replicas_are(dict.fromkeys(("a", "b", "c"), READY), nearest="b")
    found = []
    for number in range(6):
        made.expect(f"q{number}", Entry((), 0, 0))
        assert made.ranked(f"q{number}", ["a", "b", "c"])[0] == "b"
        made.ended(f"q{number}")
        found.append(ask(made, f"{number}", LONG)[0])
    assert sorted(found) == ["a", "a", "b", "b", "c", "c"]
    away = ReplicaState(node="n", state=WorkerState.RESTARTING)
    made.replicas_are({"a": READY, "b": away, "c": READY}, nearest="b")
    made.expect("q", Entry((), 0, 0))
    assert made.ranked("q", ["a", "b", "c"])[0] == "a"


def test_what_was_told_before_is_not_learned_again() -> None:
    made = book()
    told = ReplicaState(node="n", state=WorkerState.READY, prompts=(b"".join(LONG),))
    made.replicas_are({"a": READY, "b": told, "c": READY})
    assert ask(made, "1", LONG, excluded=("b",))[0] == "a"  # from now on it is there as well
    made.ended("1")
    made.replicas_are({"a": READY, "b": told, "c": READY})
    assert ask(made, "2", LONG)[0] == "a"  # where it went last


def test_a_queue_that_is_longer_than_the_prefix_is_worth_sends_it_elsewhere() -> None:
    made = book()
    ask(made, "1", LONG)
    made.ended("1")
    for number in range(3):  # 640 tokens each that are to be computed there
        made.expect(f"w{number}", Entry((), 640, 10))
        made.ranked(f"w{number}", ["a"])
    assert ask(made, "2", LONG)[0] == "b"


def test_what_is_computed_waits_no_more() -> None:
    made = book(Policy.LEAST_TOKENS)
    assert ask(made, "1", LONG)[0] == "a"
    assert ask(made, "2", LONG)[0] == "b"
    made.began("1")  # its prompt is done: 10 tokens of its answer are left
    assert ask(made, "3", LONG)[0] == "c"
    assert ask(made, "4", LONG)[0] == "a"


def test_a_replica_that_was_lost_over_it_is_the_last_choice() -> None:
    made = book()
    ask(made, "1", LONG)
    made.ended("1")
    assert ask(made, "2", LONG, excluded=("a",)) == ["b", "c", "a"]
    assert ask(made, "3", LONG, excluded=("a", "b", "c"))[0] == "a"


@pytest.mark.parametrize("state", [WorkerState.RESTARTING, WorkerState.FAILED])
def test_one_that_does_not_answer_now_is_not_asked_first(state: WorkerState) -> None:
    made = book()
    made.replicas_are({"a": ReplicaState(node="n", state=state), "b": READY, "c": READY})
    assert ask(made, "1", LONG) == ["b", "c", "a"]


def test_where_ray_sends_it_elsewhere_that_counts() -> None:
    made = book(Policy.LEAST_TOKENS)
    assert ask(made, "1", LONG)[0] == "a"
    made.went("1", "c")
    assert made.waiting_on("1")[0] == "c"
    assert ask(made, "2", LONG)[0] == "a"  # where nothing waits any more


def test_a_replica_that_took_the_place_of_another_knows_nothing() -> None:
    made = book(names=("a",))
    made.expect("1", Entry(LONG, 640, 10))
    made.ranked("1", ["a"])
    made.ended("1")
    made.replicas_are({"b": READY})
    made.replicas_are({"b": READY, "c": READY})
    assert made.num_replicas == 2
    made.expect("2", Entry(LONG, 640, 10))
    made.ranked("2", ["b", "c"])
    assert made.waiting_on("2")[0] == "b"
    made.expect("3", Entry(LONG, 640, 10))
    assert made.ranked("3", ["b", "c"])[0] == "c"  # b has 640 tokens to compute, and no less


def test_a_request_that_nobody_waits_for_goes_anywhere() -> None:
    assert book().ranked("gone", ["b", "a"]) == ["b", "a"]


def test_doors_and_ray_have_one_book_for_each_model() -> None:
    first = book_of("test-one")
    first.route_by(Policy.ROUND_ROBIN)
    assert book_of("test-one") is first
    assert book_of("test-two") is not first
