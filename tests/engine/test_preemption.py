"""Cells run out: who gives way to whom, what it costs,
and that everybody comes to an end.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.batch import Batch
from appliance.engine.outputs import Broken, Sampled
from appliance.engine.requests import EngineRequest
from appliance.errors import CacheFull
from tests.engine.engines import ENDLESS, MANY_BYTES, make_engine
from tests.engine.fake_runner import FakeRunner
from tests.engine.growing_answers import alone, ask, run


def test_answers_grow_until_the_youngest_gives_way_and_goes_on_unchanged() -> None:
    runner = FakeRunner(num_cells=100, num_slots=2)
    engine = make_engine(runner, ctx=90, max_host_bytes=MANY_BYTES)
    requests = [ask(0, 20, 60), ask(1, 20, 60)]
    for request in requests:
        engine.submit(request)
    tokens, ended, most_preempted = run(engine)
    assert tokens == {r.request_id: alone(r) for r in requests}
    assert (ended, most_preempted) == ([0, 1], 1)
    # Both had 50 cells when the pool was full. The younger's 50 came back; nothing was
    # computed twice.
    assert runner.num_restored_tokens == 50
    assert runner.num_prefilled_tokens == 2 * (20 + 59)


def test_without_host_memory_the_preempted_cells_are_computed_again() -> None:
    runner = FakeRunner(num_cells=100, num_slots=2)
    engine = make_engine(runner, ctx=90, max_host_bytes=0)
    requests = [ask(0, 20, 60), ask(1, 20, 60)]
    for request in requests:
        engine.submit(request)
    tokens, _, most_preempted = run(engine)
    assert tokens == {r.request_id: alone(r) for r in requests}
    assert most_preempted == 1
    assert runner.num_restored_tokens == 0
    assert runner.num_prefilled_tokens == 2 * (20 + 59) + 50


def test_only_what_is_not_shared_leaves() -> None:
    runner = FakeRunner(num_cells=100, num_slots=2)
    engine = make_engine(runner, ctx=90, max_host_bytes=MANY_BYTES)
    common = [7] * 40
    for request_id in range(2):
        engine.submit(
            EngineRequest(
                request_id=request_id,
                prompt=[*common, 8 + request_id],
                sampling=ENDLESS,
                max_new_tokens=40,
            )
        )
    _, _, most_preempted = run(engine)
    assert most_preempted == 1
    # Of the younger's cells 29 were its own. The common 40 left with the older when it
    # ended, and came back too.
    assert runner.num_restored_tokens == 29 + 40
    assert runner.num_prefilled_tokens == 41 + 1 + 2 * 39


def test_who_was_preempted_goes_on_before_anybody_new() -> None:
    runner = FakeRunner(num_cells=100, num_slots=3)
    engine = make_engine(runner, ctx=90, max_host_bytes=MANY_BYTES)
    for request_id in range(2):
        engine.submit(ask(request_id, 20, 60))
    while not engine.num_preempted:
        engine.step()
    engine.submit(ask(2, 2, 2))  # would fit at once
    _, ended, _ = run(engine)
    assert ended.index(2) > ended.index(0)
    assert ended[0] == 0


def test_a_preempted_request_can_be_cancelled() -> None:
    runner = FakeRunner(num_cells=100, num_slots=2)
    engine = make_engine(runner, ctx=90, max_host_bytes=MANY_BYTES)
    for request_id in range(2):
        engine.submit(ask(request_id, 20, 60))
    while not engine.num_preempted:
        engine.step()
    engine.finish(1)
    _, ended, _ = run(engine)
    assert ended == [0]
    assert runner.cells == {}


def test_the_one_that_shares_all_its_cells_with_others_gives_way_too() -> None:
    """Two that have nothing of their own hold 60 cells together: neither of them alone
    frees one.
    """
    runner = FakeRunner(num_cells=100, num_slots=3, max_rows=30)
    engine = make_engine(runner, ctx=100, max_host_bytes=MANY_BYTES)
    engine.submit(ask(0, 10, 85))
    common = [9] * 60
    for request_id in (1, 2):
        engine.submit(
            EngineRequest(
                request_id=request_id,
                prompt=[*common, 9 + request_id],
                sampling=ENDLESS,
                max_new_tokens=5,
            )
        )
    _, ended, _ = run(engine)
    assert sorted(ended) == [0, 1, 2]


def test_a_request_computed_in_two_parts_was_asked_only_once() -> None:
    """Preempted and resumed, or shifted: its prefix is no more worth a file than any
    other that nobody used again.
    """
    runner = FakeRunner(num_cells=700, num_slots=2, max_rows=512)
    engine = make_engine(runner, ctx=690, max_kept=700, max_host_bytes=MANY_BYTES)
    for request_id in range(2):
        engine.submit(ask(request_id, 300, 100))
    _, _, most_preempted = run(engine)
    assert most_preempted == 1
    assert engine.next_for_disk() is None


requests = st.tuples(
    st.integers(1, 3),  # family: prompts of one begin alike
    st.integers(1, 25),  # tokens of the prompt
    st.integers(1, 35),  # tokens of the answer
    st.integers(0, 30),  # arrives after so many steps
    st.one_of(st.none(), st.integers(0, 60)),  # cancelled after so many
)


@given(
    st.lists(requests, min_size=2, max_size=12),
    st.integers(2, 6),
    st.integers(40, 90),
    st.integers(8, 32),
    st.sampled_from([0, 30, 200, MANY_BYTES]),
)
@settings(max_examples=300, deadline=None)
def test_in_a_pool_that_is_too_small_every_request_still_ends_once_and_as_if_it_were_alone(
    plan: list[tuple[int, int, int, int, int | None]],
    num_slots: int,
    num_cells: int,
    max_rows: int,
    max_host_bytes: int,
) -> None:
    ctx = 40
    runner = FakeRunner(
        num_cells=num_cells, num_slots=num_slots, max_rows=max_rows, num_sequence_ids=num_slots + 3
    )
    engine = make_engine(runner, ctx=ctx, max_kept=20, max_host_bytes=max_host_bytes)
    tokens: dict[int, list[int]] = defaultdict(list)
    pending = sorted(enumerate(plan), key=lambda pair: pair[1][3])
    oldest_first: list[int] = []
    for step in range(3000):
        while pending and pending[0][1][3] <= step:
            request_id, (family, num_prompt, num_new, _, _) = pending.pop(0)
            engine.submit(
                EngineRequest(
                    request_id=request_id,
                    prompt=[family] * num_prompt,
                    sampling=ENDLESS,
                    max_new_tokens=num_new,
                )
            )
            oldest_first.append(request_id)
        for request_id, (*_, cancelled_at) in enumerate(plan):
            if cancelled_at == step:
                engine.finish(request_id)
        had_work = engine.has_work
        num_steps = engine.num_steps
        outputs = engine.step()
        assert engine.num_steps == num_steps + had_work, (
            "there is always something to compute for somebody"
        )
        for output in outputs:
            assert isinstance(output, Sampled)
            tokens[output.request_id].append(output.token)
        assert engine.num_used_cells == runner.num_used_cells <= num_cells
        if not pending and not engine.has_work:
            break
    assert not engine.has_work
    for request_id, (family, num_prompt, num_new, _, cancelled_at) in enumerate(plan):
        answer = alone(
            EngineRequest(
                request_id=request_id,
                prompt=[family] * num_prompt,
                sampling=ENDLESS,
                max_new_tokens=min(num_new, ctx - num_prompt),
            )
        )
        if cancelled_at is None:
            assert tokens[request_id] == answer
        else:
            assert tokens[request_id] == answer[: len(tokens[request_id])]


@pytest.mark.parametrize(("most", "num_refused"), [(1, 3 + 2 + 1), (2, 2)])
def test_the_runner_says_what_room_there_is(most: int, num_refused: int) -> None:
    """Whatever was counted: sliding windows and states take room of their own. All are
    tried again when one has ended, and not before.
    """
    runner = FullRunner(most)
    engine = make_engine(runner, max_host_bytes=MANY_BYTES)
    requests = [ask(request_id, 20, 8) for request_id in range(4)]
    for request in requests:
        engine.submit(request)
    tokens, _, most_preempted = run(engine)
    assert tokens == {r.request_id: alone(r) for r in requests}
    assert most_preempted > 0
    assert runner.num_refused == num_refused


def test_a_lone_sequence_without_room_ends_with_an_error() -> None:
    engine = make_engine(FullRunner(0))
    engine.submit(ask(1, 20, 8))
    [broken] = engine.step()
    assert isinstance(broken, Broken)
    assert isinstance(broken.error, CacheFull)
    assert not engine.has_work


class FullRunner(FakeRunner):
    """Computes rows of so many sequences together."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.num_refused = 0

    def decode(self, batch: Batch) -> None:
        if len({row.slot for row in batch.rows}) > self._most:
            self.num_refused += 1
            raise CacheFull("as the test wished")
        super().decode(batch)
