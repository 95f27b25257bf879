"""Continuous batching, told through the fake runner: who runs with whom, who waits, how
each request ends.
"""

from __future__ import annotations

import pytest

from appliance.engine.outputs import Broken, Sampled
from appliance.engine.requests import EngineRequest
from appliance.errors import BadRequest, PromptTooLong, QueueFull
from appliance.protocol.events import FinishReason
from appliance.protocol.sampling import SamplingParams
from tests.engine.engines import ENDLESS, finished, make_engine, request, run_to_end
from tests.engine.fake_runner import END_TOKEN, FakeRunner, next_token


def test_requests_join_and_leave_the_batch_at_every_step() -> None:
    runner = FakeRunner()
    engine = make_engine(runner)
    engine.submit(request(1, num_prompt_tokens=4, max_new_tokens=3))
    engine.step()  # 1: prefill
    engine.submit(request(2, num_prompt_tokens=5, max_new_tokens=4))
    engine.step()  # 1 decodes, 2 prefills
    engine.step()  # both decode, 1 ends
    engine.step()  # 2 alone
    assert [(len(batch), batch.num_slots) for batch in runner.batches] == [
        (4, 1),
        (6, 2),
        (2, 2),
        (1, 1),
    ]
    assert (engine.num_steps, engine.num_rows) == (4, 4 + 6 + 2 + 1)


def test_four_slots_run_together_and_the_fifth_request_waits_for_the_first_free_one() -> None:
    runner = FakeRunner(num_slots=4)
    engine = make_engine(runner)
    for request_id in range(1, 6):
        engine.submit(request(request_id, max_new_tokens=1 + request_id))
    engine.step()
    assert (engine.num_running, engine.num_waiting) == (4, 1)
    engine.step()  # request 1 ends
    engine.step()  # request 5 prefills beside the three others
    assert runner.batches[-1].num_slots == 4
    assert set(finished(run_to_end(engine))) == {3, 4, 5}


def test_slots_and_cells_are_all_free_at_the_end() -> None:
    runner = FakeRunner()
    engine = make_engine(runner)
    for request_id in range(1, 12):
        engine.submit(request(request_id))
    run_to_end(engine)
    assert runner.cells == {}


def test_length_ends_at_max_new_tokens_and_at_the_context() -> None:
    engine = make_engine(FakeRunner(), ctx=10)
    engine.submit(request(1, num_prompt_tokens=4, max_new_tokens=2))
    engine.submit(request(2, num_prompt_tokens=4, max_new_tokens=None))
    last = {o.request_id: o for o in run_to_end(engine) if isinstance(o, Sampled)}
    assert (last[1].num_new_tokens, last[1].finish_reason) == (2, FinishReason.LENGTH)
    assert (last[2].num_new_tokens, last[2].finish_reason) == (6, FinishReason.LENGTH)


def test_the_end_token_stops_unless_it_is_ignored() -> None:
    prompt = next(
        [a, b] for a in range(1, 40) for b in range(1, 40) if next_token([a, b]) == END_TOKEN
    )
    for sampling, reason in ((SamplingParams(), FinishReason.STOP), (ENDLESS, None)):
        engine = make_engine(FakeRunner())
        engine.submit(
            EngineRequest(request_id=1, prompt=prompt, sampling=sampling, max_new_tokens=5)
        )
        [output] = engine.step()
        assert isinstance(output, Sampled)
        assert output.finish_reason is reason


def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers() -> None:
    engine = make_engine(FakeRunner(), ctx=10)
    with pytest.raises(PromptTooLong, match="10 tokens, and at most 9 fit"):
        engine.submit(request(1, num_prompt_tokens=10))
    assert not engine.has_work
    engine.submit(request(2, num_prompt_tokens=9, max_new_tokens=None))
    assert finished(run_to_end(engine)) == {2: FinishReason.LENGTH}


def test_the_queue_is_bounded_in_tokens_but_never_refuses_when_nobody_waits() -> None:
    engine = make_engine(FakeRunner(), max_waiting=10)
    engine.submit(request(1, num_prompt_tokens=20))
    with pytest.raises(QueueFull, match="20 prompt tokens are waiting"):
        engine.submit(request(2, num_prompt_tokens=1))
    engine.step()  # request 1 leaves the queue
    engine.submit(request(3, num_prompt_tokens=6))
    engine.submit(request(4, num_prompt_tokens=4))
    with pytest.raises(QueueFull):
        engine.submit(request(5, num_prompt_tokens=1))


@pytest.mark.parametrize("prompt", [[], [1, 50], [-1]])
def test_prompts_without_tokens_or_with_unknown_ones_are_refused(prompt: list[int]) -> None:
    engine = make_engine(FakeRunner())
    with pytest.raises(BadRequest):
        engine.submit(
            EngineRequest(request_id=1, prompt=prompt, sampling=ENDLESS, max_new_tokens=1)
        )


def test_a_cancelled_request_leaves_before_the_next_step_wherever_it_stands() -> None:
    runner = FakeRunner(num_slots=1, max_rows=8)
    engine = make_engine(runner)
    engine.submit(request(1, num_prompt_tokens=20))
    engine.submit(request(2))
    engine.step()
    engine.finish(1)  # in the middle of its prefill
    assert runner.cells == {}
    engine.submit(request(3))
    engine.finish(3)  # still waiting
    engine.finish(99)  # never known
    assert finished(run_to_end(engine)) == {2: FinishReason.LENGTH}


def test_a_failed_decode_ends_exactly_the_requests_in_it() -> None:
    runner = FakeRunner(num_slots=2)
    engine = make_engine(runner)
    for request_id in (1, 2, 3):
        engine.submit(request(request_id))
    runner.fail_next = True
    broken = engine.step()
    assert [o.request_id for o in broken if isinstance(o, Broken)] == [1, 2]
    assert runner.cells == {}
    assert finished(run_to_end(engine)) == {3: FinishReason.LENGTH}


def test_who_waited_for_a_prompt_that_failed_computes_it_itself() -> None:
    runner = FakeRunner(num_slots=2, max_rows=8)
    engine = make_engine(runner)
    for request_id in (1, 2):
        engine.submit(
            EngineRequest(
                request_id=request_id, prompt=[7] * 30, sampling=ENDLESS, max_new_tokens=3
            )
        )
    engine.step()
    runner.fail_next = True
    assert [type(output) for output in engine.step()] == [Broken]
    tokens = [7] * 30
    for output in run_to_end(engine):
        assert isinstance(output, Sampled)
        assert output.token == next_token(tokens) or next_token(tokens) == END_TOKEN
        tokens.append(output.token)
    assert len(tokens) == 33
    assert runner.cells == {}


def test_cells_are_reserved_for_the_longest_answer_so_that_a_small_pool_only_queues() -> None:
    runner = FakeRunner(num_cells=20, num_slots=4)
    engine = make_engine(runner, ctx=16)
    for request_id in range(1, 7):
        engine.submit(request(request_id, num_prompt_tokens=6, max_new_tokens=5))  # 10 cells each
    outputs = engine.step()
    assert engine.num_running == 2
    outputs += run_to_end(engine)
    assert set(finished(outputs)) == set(range(1, 7))


def test_a_long_prompt_never_stalls_running_streams_beyond_the_budget() -> None:
    runner = FakeRunner(num_cells=4096, max_rows=512, cost_ms=lambda rows: 5.0 + rows)
    engine = make_engine(runner, ctx=1024, max_stall_ms=50)
    engine.submit(request(1, num_prompt_tokens=4, max_new_tokens=200))
    for _ in range(5):
        engine.step()
    engine.submit(request(2, num_prompt_tokens=600, max_new_tokens=1))
    started_s, prefill_steps = runner.now_s, 0
    while engine.num_running == 2 or engine.num_waiting:
        before_s = runner.now_s
        engine.step()
        assert (runner.now_s - before_s) * 1000 <= 50 + 1e-6
        prefill_steps += 1
    assert prefill_steps < 30, "600 rows of at most 45 a step: the budget is also used"
    assert runner.now_s > started_s


def test_prompts_in_progress_share_the_rows_so_that_a_short_one_starts_at_once() -> None:
    runner = FakeRunner(num_cells=4096, max_rows=64)
    engine = make_engine(runner, ctx=1024)
    engine.submit(request(1, num_prompt_tokens=600, max_new_tokens=1))
    engine.step()
    engine.submit(request(2, num_prompt_tokens=20, max_new_tokens=1))
    assert finished(engine.step()) == {2: FinishReason.LENGTH}
    assert len(runner.batches[-1]) == 64, "the long prompt takes what the short one leaves"
