"""`uses_cache` off: nothing is taken over and nothing is left behind, whatever happens
in between.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.errors import MemoryPressure
from appliance.protocol.relief import Relief
from tests.engine.engines import ENDLESS, MANY_BYTES, make_engine, run_to_end
from tests.engine.fake_runner import FakeRunner
from tests.engine.growing_answers import alone, ask, run

PROMPT = [1 + at % 40 for at in range(100)]


def cached_tokens(runner: FakeRunner, *uses_cache: bool, max_host_bytes: int = 0) -> list[int]:
    """Of requests with one prompt, one after the other."""
    engine = make_engine(runner, ctx=256, max_kept=500, max_host_bytes=max_host_bytes)
    cached = []
    for request_id, uses in enumerate(uses_cache):
        engine.submit(
            EngineRequest(
                request_id=request_id,
                prompt=PROMPT,
                sampling=ENDLESS,
                max_new_tokens=1,
                uses_cache=uses,
            )
        )
        [output] = run_to_end(engine)
        assert isinstance(output, Sampled)
        cached.append(output.num_cached_tokens)
    assert engine.num_used_cells == runner.num_used_cells
    return cached


def test_it_takes_nothing_and_leaves_nothing() -> None:
    runner = FakeRunner(num_cells=1024)
    assert cached_tokens(runner, True, False) == [0, 0]
    assert runner.num_prefilled_tokens == 200
    runner = FakeRunner(num_cells=1024)
    assert cached_tokens(runner, False, True, True) == [0, 0, 99]
    assert cached_tokens(FakeRunner(num_cells=1024), False, max_host_bytes=MANY_BYTES) == [0]


def test_arriving_together_it_computes_its_own() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256)
    for request_id, uses in ((0, True), (1, False), (2, True)):
        engine.submit(
            EngineRequest(
                request_id=request_id,
                prompt=PROMPT,
                sampling=ENDLESS,
                max_new_tokens=1,
                uses_cache=uses,
            )
        )
    cached = {
        o.request_id: o.num_cached_tokens for o in run_to_end(engine) if isinstance(o, Sampled)
    }
    assert cached == {0: 0, 1: 0, 2: 99}
    assert runner.num_prefilled_tokens == 100 + 100 + 1
    assert runner.cells == {}


def test_nobody_takes_over_anything_from_it_while_it_runs() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256, max_kept=500)
    engine.submit(
        EngineRequest(
            request_id=0, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=30, uses_cache=False
        )
    )
    engine.submit(
        EngineRequest(request_id=1, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=1)
    )  # beside its prompt
    outputs = engine.step()
    while engine.num_running > 1:
        outputs += engine.step()
    # beside its answer: takes over what 1 has left
    engine.submit(
        EngineRequest(request_id=2, prompt=[*PROMPT, 7], sampling=ENDLESS, max_new_tokens=1)
    )
    outputs += run_to_end(engine)
    cached = {o.request_id: o.num_cached_tokens for o in outputs if isinstance(o, Sampled)}
    assert cached == {0: 0, 1: 0, 2: 100}
    assert runner.num_prefilled_tokens == 100 + 29 + 100 + 1
    assert engine.num_used_cells == runner.num_used_cells == 101


def test_preempted_it_is_computed_again_and_goes_on_unchanged() -> None:
    runner = FakeRunner(num_cells=100, num_slots=2)
    engine = make_engine(runner, ctx=90, max_kept=90, max_host_bytes=MANY_BYTES)
    requests = [replace(ask(request_id, 20, 60), uses_cache=False) for request_id in (0, 1)]
    for request in requests:
        engine.submit(request)
    tokens, ended, most_preempted = run(engine)
    assert tokens == {r.request_id: alone(r) for r in requests}
    assert (ended, most_preempted) == ([0, 1], 1)
    assert (runner.num_saved_tokens, runner.cells) == (0, {})


def test_a_shifted_context_leaves_nothing_either() -> None:
    runner = FakeRunner(num_cells=256)
    engine = make_engine(runner, ctx=64, max_kept=200)
    request = EngineRequest(
        request_id=1, prompt=PROMPT[:40], sampling=ENDLESS, max_new_tokens=60, shifts_context=True
    )
    engine.submit(replace(request, uses_cache=False))
    without = [o.token for o in run_to_end(engine) if isinstance(o, Sampled)]
    assert runner.cells == {}
    engine.submit(request)
    assert [o.token for o in run_to_end(engine) if isinstance(o, Sampled)] == without


def test_short_of_memory_all_of_it_counts() -> None:
    engine = make_engine(FakeRunner(num_cells=1024), ctx=256, max_kept=500)
    engine.submit(EngineRequest(request_id=1, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=1))
    run_to_end(engine)
    engine.relieve(Relief(max_prompt_tokens=50, reason="a test"))
    engine.submit(EngineRequest(request_id=2, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=1))
    with pytest.raises(MemoryPressure, match="this one adds 100"):
        engine.submit(
            EngineRequest(
                request_id=3, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=1, uses_cache=False
            )
        )
