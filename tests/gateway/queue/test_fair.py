"""Whose request is next: shares by weight, first come first served within a caller, nobody
for ever.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.gateway.queue.fair import Entry, FairQueue


def put(
    queue: FairQueue[int], caller: str, num_tokens: int, item: int = 0, weight: int = 10
) -> None:
    queue.put(Entry(caller, weight, num_tokens, item))


def taken(queue: FairQueue[int], count: int) -> list[str]:
    return [queue.take().caller_id for _ in range(count)]


def test_callers_take_turns_however_many_requests_they_have() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(6):
        put(queue, "flood", 640, item)
    put(queue, "one", 640)
    put(queue, "other", 640)
    assert taken(queue, 4) == ["flood", "one", "other", "flood"]


def test_tokens_count_not_requests() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(4):
        put(queue, "long", 1280, item)
    for item in range(16):
        put(queue, "short", 320, item)
    first = Counter(taken(queue, 10))
    assert first == {"long": 2, "short": 8}


def test_weights_are_shares() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(60):
        put(queue, "heavy", 100, item, weight=20)
        put(queue, "light", 100, item, weight=10)
    first = Counter(taken(queue, 60))
    assert 38 <= first["heavy"] <= 42


def test_first_come_first_served_within_a_caller() -> None:
    queue: FairQueue[int] = FairQueue()
    for item, num_tokens in enumerate((5000, 1, 300)):
        put(queue, "a", num_tokens, item)
    assert [queue.take().item for _ in range(3)] == [0, 1, 2]


def test_who_had_nothing_waiting_goes_first_whatever_the_weights() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(150):
        put(queue, "flood", 16, item, weight=100)
    assert taken(queue, 3) == ["flood"] * 3
    put(queue, "one", 5000, weight=1)
    assert taken(queue, 1) == ["one"]


def test_who_asks_one_after_another_gets_a_share_too() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(100):
        put(queue, "flood", 100, item)
    order = []
    for _ in range(10):
        put(queue, "one", 100)
        while (caller := queue.take().caller_id) != "one":
            order.append(caller)
        order.append(caller)
    assert order == ["flood", "one"] * 10


def test_nobody_owes_once_nobody_waits() -> None:
    queue: FairQueue[int] = FairQueue()
    put(queue, "a", 10**6)
    assert taken(queue, 1) == ["a"]
    put(queue, "a", 10)
    put(queue, "b", 10)
    assert taken(queue, 2) == ["a", "b"]


def test_what_was_not_taken_is_given_back() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(3):
        put(queue, "greedy", 640, item)
        put(queue, "modest", 640, item)
    greedy, modest = queue.take(), queue.take()
    assert (greedy.caller_id, modest.caller_id) == ("greedy", "modest")
    queue.settle(greedy, 1920)  # three times what it was expected to
    assert taken(queue, 2) == ["modest", "modest"]


@settings(deadline=None)  # on a busy machine it takes what it takes
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcde"),
            st.integers(0, 5000),
            st.booleans(),
        ),
        max_size=80,
    ),
    st.dictionaries(st.sampled_from("abcde"), st.integers(1, 100)),
)
def test_everything_comes_once_in_its_callers_order(
    steps: list[tuple[str, int, bool]], weights: dict[str, int]
) -> None:
    """Whatever comes and goes in between."""
    queue: FairQueue[int] = FairQueue()
    waiting: dict[str, list[Entry[int]]] = {}
    for number, (caller, num_tokens, is_taken) in enumerate(steps):
        entry = Entry(caller, weights.get(caller, 10), num_tokens, number)
        queue.put(entry)
        waiting.setdefault(caller, []).append(entry)
        if is_taken:
            got = queue.take()
            assert waiting[got.caller_id].pop(0) is got
            queue.settle(got, num_tokens)
        elif num_tokens % 7 == 0:
            queue.discard(waiting[caller].pop())
        left = [each for entries in waiting.values() for each in entries]
        assert len(queue) == len(left)
        assert queue.num_tokens == sum(each.num_tokens for each in left)
    while len(queue):
        got = queue.take()
        assert waiting[got.caller_id].pop(0) is got
    assert not any(waiting.values())


@settings(deadline=None)  # on a busy machine it takes what it takes
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(1, 100), st.integers(1, 3000)), min_size=1, max_size=5),
    st.integers(1, 100),
)
def test_nobody_waits_longer_than_the_others_take_for_their_shares(
    own: list[int], floods: list[tuple[int, int]], weight: int
) -> None:
    """The others always have something waiting, and go on asking. Until all of mine is
    answered, each gets as much for its weight as I do, and one request more.
    """
    queue: FairQueue[int] = FairQueue()
    for number, (other_weight, num_tokens) in enumerate(floods):
        put(queue, f"flood {number}", num_tokens, weight=other_weight)
    for num_tokens in own:
        put(queue, "me", num_tokens, weight=weight)
    most = sum(own[:-1]) / weight
    got: Counter[str] = Counter()
    left = len(own)
    while left:
        entry = queue.take()
        if entry.caller_id == "me":
            left -= 1
            continue
        got[entry.caller_id] += entry.num_tokens
        queue.put(entry)  # it asks again
        number = int(entry.caller_id.split()[1])
        other_weight, num_tokens = floods[number]
        assert got[entry.caller_id] <= most * other_weight + num_tokens + 1e-6
