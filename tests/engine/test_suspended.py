"""Requests that nobody reads for a while: their slot is free at once, and they go on
unchanged.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.engine import Engine
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS, MANY_BYTES, make_engine, run_to_end
from tests.engine.fake_runner import FakeRunner
from tests.engine.growing_answers import alone, ask


def tokens_of(engine: Engine, num_steps: int, request_id: int = 0) -> list[int]:
    outputs = [output for _ in range(num_steps) for output in engine.step()]
    return [o.token for o in outputs if isinstance(o, Sampled) and o.request_id == request_id]


def test_it_goes_on_from_its_own_cells_and_nothing_is_sampled_twice() -> None:
    runner = FakeRunner(num_cells=100, num_slots=1)
    engine = make_engine(runner, ctx=90, max_kept=60)
    request = ask(0, 30, 20)
    engine.submit(request)
    tokens = tokens_of(engine, 8)
    num_computed = runner.num_prefilled_tokens
    engine.suspend(0)
    assert not engine.has_work
    assert (engine.num_running, engine.num_waiting) == (0, 0)

    engine.submit(ask(1, 4, 4))  # the only slot is free
    assert len(run_to_end(engine)) == 4

    engine.resume(0)
    rest = run_to_end(engine)
    assert tokens + [o.token for o in rest if isinstance(o, Sampled)] == alone(request)
    # of the first request nothing but what had not been computed before
    assert runner.num_prefilled_tokens - num_computed == (4 + 3) + (30 + 19 - num_computed)
    last = rest[-1]
    assert isinstance(last, Sampled)
    assert (last.num_new_tokens, last.num_cached_tokens) == (20, 0)


def test_without_its_cells_it_computes_them_again() -> None:
    runner = FakeRunner(num_cells=100, num_slots=1)
    engine = make_engine(runner, ctx=90, max_kept=0)
    request = ask(0, 30, 20)
    engine.submit(request)
    tokens = tokens_of(engine, 8)
    engine.suspend(0)
    assert runner.num_used_cells == 0
    engine.resume(0)
    assert tokens + tokens_of(engine, 12) == alone(request)
    assert runner.num_prefilled_tokens == (30 + 7) + (30 + 19)


def test_it_is_admitted_before_those_that_came_meanwhile() -> None:
    engine = make_engine(FakeRunner(num_cells=100, num_slots=1), ctx=90)
    for request_id in range(3):
        engine.submit(ask(request_id, 4, 4))
    assert len(tokens_of(engine, 2)) == 2
    engine.suspend(0)
    engine.resume(0)
    ended = [o.request_id for o in run_to_end(engine) if isinstance(o, Sampled) and o.finish_reason]
    assert ended == [0, 1, 2]


def test_in_the_queue_and_amidst_its_prompt() -> None:
    runner = FakeRunner(num_cells=100, num_slots=1, max_rows=16)
    engine = make_engine(runner, ctx=90, max_kept=60)
    requests = [ask(0, 40, 5), ask(1, 40, 5)]
    for request in requests:
        engine.submit(request)
    assert engine.step() == []  # the first prompt is not computed yet, the second one waits
    for request_id in (0, 1):
        engine.suspend(request_id)
    assert not engine.has_work
    engine.resume(1)
    engine.resume(0)
    outputs = run_to_end(engine)
    for request in requests:
        got = [
            o.token
            for o in outputs
            if isinstance(o, Sampled) and o.request_id == request.request_id
        ]
        assert got == alone(request)


def test_finished_while_suspended_nothing_is_left_of_it() -> None:
    runner = FakeRunner(num_cells=100, num_slots=1)
    engine = make_engine(runner, ctx=90)
    engine.submit(ask(0, 4, 40))
    engine.step()
    engine.suspend(0)
    engine.finish(0)
    engine.resume(0)  # unknown by now
    assert not engine.has_work
    engine.submit(ask(0, 4, 4))  # the same id, so its sampler must be gone
    engine.step()
    engine.suspend(0)
    engine.resume(0)
    engine.finish(0)  # before it is admitted again
    engine.submit(ask(0, 4, 4))
    assert len(run_to_end(engine)) == 4


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whoever_is_interrupted_when_ever_answers_are_the_same(data: st.DataObject) -> None:
    runner = FakeRunner(
        num_cells=data.draw(st.integers(60, 120)), num_slots=data.draw(st.integers(1, 3))
    )
    engine = make_engine(
        runner,
        ctx=50,
        max_kept=data.draw(st.sampled_from([0, 20, 60])),
        max_host_bytes=data.draw(st.sampled_from([0, MANY_BYTES])),
    )
    requests = [
        EngineRequest(
            request_id=at,
            prompt=[1 + at] * data.draw(st.integers(1, 25)),
            sampling=ENDLESS,
            max_new_tokens=data.draw(st.integers(1, 20)),
            uses_cache=data.draw(st.booleans()),
        )
        for at in range(4)
    ]
    for request in requests:
        engine.submit(request)
    away: set[int] = set()
    tokens: dict[int, list[int]] = {at: [] for at in range(4)}
    for _ in range(400):
        for request_id in range(4):
            if data.draw(st.integers(0, 9)) == 0:
                (engine.resume if request_id in away else engine.suspend)(request_id)
                away ^= {request_id}
        for output in engine.step():
            assert isinstance(output, Sampled)
            tokens[output.request_id].append(output.token)
        if not engine.has_work:
            break
    for request_id in away:
        engine.resume(request_id)
    for output in run_to_end(engine):
        assert isinstance(output, Sampled)
        tokens[output.request_id].append(output.token)
    assert tokens == {r.request_id: alone(r) for r in requests}
    assert engine.num_running == 0
