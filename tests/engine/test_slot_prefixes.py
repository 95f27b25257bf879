"""What a slot's last sequence left: copied, put back into an empty engine, and erased."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.engine.engine import Engine
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.engine.scoring import Prefilled
from tests.engine.engines import MANY_BYTES, make_engine, request, run_to_end
from tests.engine.fake_runner import FakeRunner

NUM_TOKENS = 20


def engine(max_kept: int) -> Engine:
    return make_engine(FakeRunner(), max_kept=max_kept, max_host_bytes=MANY_BYTES)


def run(engine: Engine, asked: EngineRequest) -> tuple[int, int]:
    """Its slot, and how many tokens of its prompt were cached."""
    engine.submit(asked)
    outputs = engine.step()
    [running] = engine.running
    slot = running.admitted_slot
    outputs += run_to_end(engine)
    [num_cached] = {each.num_cached_tokens for each in outputs if isinstance(each, Sampled)}
    return slot, num_cached


@pytest.mark.parametrize("max_kept", [100, 0], ids=["in the cache", "in host memory"])
def test_what_a_slot_left_is_known_again_where_it_is_put_and_not_where_it_is_erased(
    max_kept: int,
) -> None:
    first = engine(max_kept)
    slot, num_cached = run(first, request(1, NUM_TOKENS, 2))
    assert num_cached == 0
    [saved] = first.cells.left.copy(slot, MANY_BYTES)
    assert (saved.first, len(saved.tokens)) == (0, NUM_TOKENS + 1), "the last token has no cell"
    assert first.cells.left.copy(slot, 1) == []
    assert first.cells.left.copy(slot + 1, MANY_BYTES) == []

    second = engine(max_kept)
    assert second.cells.left.put(slot, [saved])
    assert run(second, replace(request(2, NUM_TOKENS, 2), prompt=request(1, NUM_TOKENS).prompt))[
        1
    ] == (NUM_TOKENS - 1)

    assert first.cells.left.erase(slot) == NUM_TOKENS + 1
    assert first.cells.left.erase(slot) == 0
    assert (first.num_used_cells, first.num_host_bytes) == (0, 0)
    again = replace(request(3, NUM_TOKENS, 2), prompt=request(1, NUM_TOKENS).prompt)
    assert run(first, again)[1] == 0


def test_a_prefix_without_room_in_host_memory_is_not_put_into_a_slot() -> None:
    first = engine(100)
    slot, _ = run(first, request(1, NUM_TOKENS, 2))
    saved = first.cells.left.copy(slot, MANY_BYTES)
    without = make_engine(FakeRunner(), max_kept=100, max_host_bytes=0)
    assert not without.cells.left.put(slot, saved)


def test_each_step_of_a_prompt_is_reported_where_that_is_asked_for() -> None:
    one = make_engine(FakeRunner(max_rows=8))
    one.submit(replace(request(1, NUM_TOKENS, 2), reports_progress=True))
    one.submit(request(2, 4, 2))
    steps = [each for each in run_to_end(one) if isinstance(each, Prefilled)]
    assert {each.request_id for each in steps} == {1}
    assert [each.num_prefilled_tokens for each in steps][-1] == NUM_TOKENS
    assert len(steps) > 1
    assert not any(each.scored or each.finish_reason for each in steps)
