"""What the engine gives up when it is told that memory is short, and that nobody's
answer changes by it.
"""

from __future__ import annotations

import pytest

from appliance.engine.engine import Engine
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.errors import MemoryPressure
from appliance.protocol.relief import NO_RELIEF, Relief
from tests.engine.engines import ENDLESS, MANY_BYTES, make_engine, run_to_end
from tests.engine.fake_runner import FakeRunner, answer_alone
from tests.engine.growing_answers import alone, ask, run

# bytes that the fake runner saves of a prompt of 100 tokens, each of which it computes
HOSTED = 101


def save_three(runner: FakeRunner) -> Engine:
    """Three prefixes in host memory, the least recently used first."""
    engine = make_engine(runner, ctx=256, max_kept=0, max_host_bytes=1000)
    for request_id in range(3):
        engine.submit(ask(request_id, 100, 1))
        run_to_end(engine)
        runner.now_s += 1
    assert engine.num_host_bytes == 3 * HOSTED
    return engine


def num_cached(engine: Engine, request: EngineRequest) -> int:
    engine.submit(request)
    [output] = run_to_end(engine)
    assert isinstance(output, Sampled)
    return output.num_cached_tokens


def test_saved_prefixes_go_least_recently_used_first_until_they_keep_within_the_bound() -> None:
    engine = save_three(FakeRunner(num_cells=512))
    engine.relieve(Relief(max_host_bytes=2 * HOSTED))
    assert engine.num_host_bytes == 2 * HOSTED
    assert num_cached(engine, ask(2, 100, 1)) == 99
    assert num_cached(engine, ask(0, 100, 1)) == 0


def test_nothing_is_saved_while_the_bound_is_zero_and_as_much_as_ever_afterwards() -> None:
    engine = save_three(FakeRunner(num_cells=512))
    engine.relieve(Relief(max_host_bytes=0))
    assert engine.num_host_bytes == 0
    assert [num_cached(engine, ask(2, 100, 1)) for _ in range(2)] == [0, 0]
    assert engine.num_host_bytes == 0
    engine.relieve(NO_RELIEF)
    assert [num_cached(engine, ask(2, 100, 1)) for _ in range(2)] == [0, 99]
    assert engine.num_host_bytes == HOSTED


def test_a_bound_above_the_configured_one_gives_no_more_than_that() -> None:
    engine = save_three(FakeRunner(num_cells=512))
    engine.relieve(Relief(max_host_bytes=MANY_BYTES))
    for request_id in range(3, 12):
        num_cached(engine, ask(request_id, 100, 1))
    assert engine.num_host_bytes == 9 * HOSTED, "1000 bytes have room for nine"


def test_what_a_preempted_request_needs_stays_until_it_goes_on() -> None:
    runner = FakeRunner(num_cells=100, num_slots=2)
    engine = make_engine(runner, ctx=90, max_host_bytes=MANY_BYTES)
    requests = [ask(0, 20, 60), ask(1, 20, 60)]
    for request in requests:
        engine.submit(request)
    before: dict[int, list[int]] = {0: [], 1: []}
    while not engine.num_preempted:
        for output in engine.step():
            assert isinstance(output, Sampled)
            before[output.request_id].append(output.token)
    engine.relieve(Relief(max_host_bytes=0))
    assert engine.num_host_bytes > 0
    tokens, _, _ = run(engine)
    assert {n: before[n] + tokens[n] for n in before} == {n: alone(requests[n]) for n in before}
    assert runner.num_restored_tokens == 50
    assert engine.num_host_bytes == 0


def test_a_long_prompt_is_refused_with_the_numbers_and_a_short_one_is_not() -> None:
    engine = make_engine(FakeRunner(num_cells=512), ctx=256)
    engine.relieve(Relief(max_prompt_tokens=50, reason="1.0 MiB left"))
    with pytest.raises(
        MemoryPressure, match=r"1\.0 MiB left.* at most 50 tokens .* adds 51\."
    ) as refused:
        engine.submit(ask(1, 51, 1))
    assert (refused.value.status, refused.value.code) == (503, "memory_pressure")
    assert not engine.has_work
    engine.submit(ask(2, 50, 1))
    assert len(run_to_end(engine)) == 1
    engine.relieve(NO_RELIEF)
    engine.submit(ask(3, 51, 1))


def test_a_long_conversation_whose_beginning_has_cells_goes_on() -> None:
    engine = make_engine(FakeRunner(num_cells=512), ctx=256, max_kept=400)
    history = [1 + at % 40 for at in range(120)]
    num_cached(
        engine, EngineRequest(request_id=1, prompt=history, sampling=ENDLESS, max_new_tokens=1)
    )
    engine.relieve(Relief(max_prompt_tokens=20))
    assert (
        num_cached(
            engine,
            EngineRequest(
                request_id=2, prompt=[*history, *[45] * 20], sampling=ENDLESS, max_new_tokens=1
            ),
        )
        == 120
    )
    with pytest.raises(MemoryPressure, match="adds 21"):
        engine.submit(
            EngineRequest(request_id=3, prompt=[46, *[45] * 20], sampling=ENDLESS, max_new_tokens=1)
        )


def test_requests_in_the_queue_are_answered_whatever_their_length() -> None:
    engine = make_engine(FakeRunner(num_cells=512, num_slots=1), ctx=256)
    for request_id in (1, 2):
        engine.submit(ask(request_id, 60, 2))
    engine.relieve(Relief(max_host_bytes=0, max_prompt_tokens=10))
    tokens, ended, _ = run(engine)
    assert ended == [1, 2]
    assert tokens[2] == [t + (t == 0) for t in answer_alone([3] * 60, 1, 256)] + tokens[2][1:]
