"""How long a request waited for a slot, and how long its prompt and its answer took."""

from __future__ import annotations

import pytest

from appliance.engine.outputs import Output, Sampled
from appliance.engine.stage_times import StageTimes
from appliance.protocol.events import Shares
from tests.engine.engines import make_engine, request, run_to_end
from tests.engine.fake_drafting import FakeDrafting
from tests.engine.fake_runner import FakeRunner


def test_each_stage_ends_once() -> None:
    now_s = 10.0
    times = StageTimes(lambda: now_s)
    now_s = 10.5
    times.note_admitted()
    now_s = 12.5
    times.note_token()
    now_s = 13.5
    times.note_admitted()  # again, after it was preempted
    times.note_token()
    stages = times.stages()
    assert (stages.queue_ms, stages.prefill_ms, stages.decode_ms) == (500.0, 2000.0, 1000.0)


def test_of_a_request_that_still_waits_all_time_is_the_queues() -> None:
    now_s = 1.0
    times = StageTimes(lambda: now_s)
    now_s = 4.0
    stages = times.stages()
    assert (stages.queue_ms, stages.prefill_ms, stages.decode_ms) == (3000.0, 0.0, 0.0)


def test_the_engine_notes_who_waits_for_a_slot() -> None:
    runner = FakeRunner(num_slots=1)
    engine = make_engine(runner)
    engine.submit(request(1, max_new_tokens=2))
    engine.submit(request(2, max_new_tokens=2))
    accepted_s = runner.clock()
    engine.step()
    engine.step()
    freed_s = runner.clock()
    outputs = [*engine.step(), *engine.step()]
    (_, last) = (output for output in outputs if isinstance(output, Sampled))
    assert last.request_id == 2
    assert last.times is not None
    assert last.times.stages().queue_ms == (freed_s - accepted_s) * 1000


def shares_at_end(outputs: list[Output]) -> dict[int, Shares]:
    """By request."""
    return {
        output.request_id: output.times.stages().shares
        for output in outputs
        if isinstance(output, Sampled) and output.finish_reason and output.times is not None
    }


def test_a_steps_time_is_divided_by_rows() -> None:
    runner = FakeRunner(cost_ms=lambda num_rows: 10.0 * num_rows + 8)
    engine = make_engine(runner)
    engine.submit(request(1, num_prompt_tokens=6, max_new_tokens=2))
    engine.submit(request(2, num_prompt_tokens=2, max_new_tokens=3))
    outputs = [output for _ in range(3) for output in engine.step()]
    assert not engine.has_work
    shares = shares_at_end(outputs)
    # 8 rows in 88 ms, then 2 in 28 ms, then one in 18 ms
    assert shares[1].prompt_ms == pytest.approx(6 * 11.0)
    assert shares[1].answer_ms == pytest.approx(14.0)
    assert shares[2].prompt_ms == pytest.approx(2 * 11.0)
    assert shares[2].answer_ms == pytest.approx(14.0 + 18.0)
    assert (shares[1].draft_ms, shares[2].draft_ms) == (0.0, 0.0)
    total_ms = sum(each.prompt_ms + each.answer_ms for each in shares.values())
    assert total_ms == pytest.approx(runner.now_s * 1000)


def test_rows_of_drafts_are_told_apart() -> None:
    runner = FakeRunner(cost_ms=lambda num_rows: 10.0 * num_rows, max_draft_rows=16)
    engine = make_engine(runner, drafting=FakeDrafting(0.5, 3))
    for request_id in (1, 2):
        engine.submit(request(request_id, num_prompt_tokens=5, max_new_tokens=8))
    shares = shares_at_end(run_to_end(engine)).values()
    assert [each.prompt_ms for each in shares] == pytest.approx([50.0, 50.0])
    assert sum(each.draft_ms for each in shares) > 0
    total_ms = sum(each.prompt_ms + each.answer_ms + each.draft_ms for each in shares)
    assert total_ms == pytest.approx(runner.now_s * 1000)
