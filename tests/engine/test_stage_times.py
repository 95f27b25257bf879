"""How long a request waited for a slot, and how long its prompt and its answer took."""

from __future__ import annotations

from appliance.engine.outputs import Sampled
from appliance.engine.stage_times import StageTimes
from tests.engine.engines import make_engine, request
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
