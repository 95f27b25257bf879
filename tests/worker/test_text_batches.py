"""Texts of several requests in as few computations as they fit into, and each vector back where it belongs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.worker.text_batches import Encoded, TextBatches


def name(request_id: int, index: int) -> bytes:
    return f"{request_id}/{index}".encode()


def test_requests_that_wait_together_share_a_batch() -> None:
    batches = TextBatches(max_rows=10, max_texts=4)
    batches.add(1, [[1, 2, 3]])
    batches.add(2, [[4, 5], [6]])
    batch = batches.next_batch()
    assert [(item.request_id, item.index) for item in batch] == [(1, 0), (2, 0), (2, 1)]
    assert batches.take_in(batch, [b"a", b"b", b"c"]) == [Encoded(1, 3, [b"a"]), Encoded(2, 3, [b"b", b"c"])]
    assert (batches.num_requests, batches.num_waiting_texts) == (0, 0)


def test_what_is_dropped_is_not_computed_and_its_vectors_are_nobody_s() -> None:
    batches = TextBatches(max_rows=4, max_texts=4)
    batches.add(1, [[1] * 4, [2] * 4])
    batches.add(2, [[3]])
    batch = batches.next_batch()
    batches.drop(1)
    batches.drop(7)
    assert batches.take_in(batch, [b"a"]) == []
    assert [item.request_id for item in batches.next_batch()] == [2]


@given(
    requests=st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=5), max_size=8),
    max_texts=st.integers(1, 5),
)
def test_every_text_is_computed_once_in_order_within_the_bounds(requests: list[list[int]], max_texts: int) -> None:
    batches = TextBatches(max_rows=8, max_texts=max_texts)
    for request_id, sizes in enumerate(requests):
        batches.add(request_id, [[request_id] * size for size in sizes])
    done = []
    while batch := batches.next_batch():
        assert len(batch) <= max_texts
        assert sum(len(item.tokens) for item in batch) <= 8
        done += batches.take_in(batch, [name(item.request_id, item.index) for item in batch])
    assert done == [
        Encoded(request_id, sum(sizes), [name(request_id, index) for index in range(len(sizes))])
        for request_id, sizes in enumerate(requests)
    ]
