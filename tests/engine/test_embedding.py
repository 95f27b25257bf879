"""Inputs of several requests in one batch: who is computed when, what is refused, what
failing costs whom.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.engine.embedding import EmbeddingQueue, Encoded, NotEncoded
from appliance.errors import DecodeFailed, PromptTooLong, QueueFull

Input = list[int]


class FakeEncoder:
    """A vector is (first token, number of tokens).

    `batches` are what was computed together.
    """

    max_rows = 100
    max_inputs = 8
    num_values = 2

    def __init__(self) -> None:
        self.batches: list[list[Input]] = []
        self.broken: frozenset[int] = frozenset()  # first tokens of inputs with which a step fails

    def encode(self, inputs: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        self.batches.append([list(tokens) for tokens in inputs])
        if any(tokens[0] in self.broken for tokens in inputs):
            raise DecodeFailed("broken")
        return np.array([(tokens[0], len(tokens)) for tokens in inputs], np.float32)

    @property
    def firsts(self) -> list[list[int]]:
        return [[tokens[0] for tokens in batch] for batch in self.batches]


def make(fill_rows: int = 20, max_waiting_tokens: int = 200) -> tuple[FakeEncoder, EmbeddingQueue]:
    encoder = FakeEncoder()
    return encoder, EmbeddingQueue(encoder, fill_rows, max_waiting_tokens)


def run(waiting: EmbeddingQueue) -> list[Encoded | NotEncoded]:
    ends: list[Encoded | NotEncoded] = []
    while waiting.has_work:
        ends += waiting.step()
    return ends


def of(first: int, size: int = 5) -> Input:
    return [first] * size


def test_requests_share_a_step() -> None:
    encoder, waiting = make()
    waiting.submit(1, [of(10), of(11)])
    waiting.submit(2, [of(20, 3)])
    first, second = run(waiting)
    assert encoder.firsts == [[10, 20, 11]]
    assert isinstance(first, Encoded)
    assert isinstance(second, Encoded)
    assert (first.request_id, first.vectors.tolist(), first.num_tokens) == (
        1,
        [[10, 5], [11, 5]],
        10,
    )
    assert (second.request_id, second.vectors.tolist(), second.num_tokens) == (2, [[20, 3]], 3)


def test_a_large_request_delays_a_small_one_by_one_step_at_most() -> None:
    encoder, waiting = make()
    waiting.submit(1, [of(10 + at, 10) for at in range(9)])
    waiting.step()
    waiting.submit(2, [of(20, 10)])
    [end] = waiting.step()
    assert end.request_id == 2
    assert encoder.firsts == [[10, 11], [12, 20]]
    [end] = run(waiting)
    assert isinstance(end, Encoded)
    assert end.vectors[:, 0].tolist() == list(range(10, 19)), "in the order of its inputs"


def test_a_step_takes_as_many_rows_and_inputs_as_it_may() -> None:
    encoder, waiting = make()
    waiting.submit(1, [of(10, 90), of(11, 15), of(12, 6), *(of(20 + at, 1) for at in range(10))])
    run(waiting)
    assert encoder.firsts == [[10], [11], [12, *range(20, 27)], [27, 28, 29]]


def test_an_input_beyond_the_context_is_refused_with_both_numbers() -> None:
    _, waiting = make()
    with pytest.raises(PromptTooLong, match=r"100 tokens\. However, 101 .* in input 1\."):
        waiting.submit(1, [of(1), of(2, 101)])
    assert not waiting.has_work


def test_the_queue_is_bounded_but_takes_any_request_when_empty() -> None:
    _, waiting = make(max_waiting_tokens=30)
    waiting.submit(1, [of(1, 20), of(2, 20)])
    with pytest.raises(QueueFull, match="40 tokens are waiting"):
        waiting.submit(2, [of(3)])
    waiting.step()
    waiting.submit(3, [of(4)])
    assert [end.request_id for end in run(waiting)] == [1, 3]


def test_who_leaves_is_not_computed() -> None:
    encoder, waiting = make()
    waiting.submit(1, [of(10, 15), of(11, 15)])
    waiting.submit(2, [of(20, 15)])
    waiting.step()
    waiting.cancel(1)
    waiting.cancel(7)
    assert [end.request_id for end in run(waiting)] == [2]
    assert encoder.firsts == [[10], [20]]


def test_a_step_that_fails_ends_its_requests_and_no_others() -> None:
    encoder, waiting = make()
    encoder.broken = frozenset({10})
    waiting.submit(1, [of(10), of(11)])
    waiting.submit(2, [of(20)])
    waiting.submit(3, [of(30, 20)])
    ends = run(waiting)
    assert [(end.request_id, isinstance(end, Encoded)) for end in ends] == [
        (1, False),
        (2, False),
        (3, True),
    ]


def test_vectors_that_are_no_numbers_end_their_request() -> None:
    encoder, waiting = make()
    waiting.submit(1, [of(10)])
    waiting.submit(2, [of(20)])
    encoder.encode = lambda inputs: np.array([[np.nan, 0], [1, 0]], np.float32)  # type: ignore[method-assign]
    ends = {end.request_id: isinstance(end, Encoded) for end in waiting.step()}
    assert ends == {1: False, 2: True}
    assert not waiting.has_work


def test_a_steps_time_is_divided_by_tokens() -> None:
    encoder = FakeEncoder()
    times_s = iter((1.0, 1.3, 2.0, 2.1))
    waiting = EmbeddingQueue(encoder, 20, 200, clock=lambda: next(times_s))
    waiting.submit(1, [of(1, 10), of(2, 20)])
    waiting.submit(2, [of(3, 5)])
    first, second = run(waiting)
    assert isinstance(first, Encoded)
    assert isinstance(second, Encoded)
    assert (first.request_id, second.request_id) == (2, 1)
    assert first.compute_ms == pytest.approx(100.0)  # 5 tokens of 15, in 0.3 s
    assert second.compute_ms == pytest.approx(200.0 + 100.0)
