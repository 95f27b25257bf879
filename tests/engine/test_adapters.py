"""Sequences with other adapters share a machine in turns, and nothing else."""

from __future__ import annotations

from itertools import groupby, pairwise

from appliance.engine.adapters.sets import NO_ADAPTERS, AdapterSet, key_of, plain_tokens
from appliance.engine.outputs import Output
from appliance.engine.requests import EngineRequest
from tests.engine.engines import ENDLESS, MANY_BYTES, answers, make_engine, run_to_end
from tests.engine.fake_runner import FakeRunner, answer_alone

ONE, OTHER, THIRD = (AdapterSet(1 << 100 | at, ((at, 1.0),)) for at in range(3))
PROMPT = [*range(1, 41)]


def ask(
    request_id: int, adapters: AdapterSet, num_new: int = 4, prompt: list[int] = PROMPT
) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=prompt,
        sampling=ENDLESS,
        max_new_tokens=num_new,
        adapters=adapters,
    )


def steps_in_a_row(runner: FakeRunner) -> list[tuple[int, int]]:
    """(key, steps) of each turn."""
    return [(key, len([*steps])) for key, steps in groupby(runner.adapters_of_batches)]


def test_a_marked_prompt_is_another_one_and_can_be_read() -> None:
    marked = ONE.marked(PROMPT)
    assert key_of(marked) == ONE.key
    assert plain_tokens(marked) == PROMPT
    assert marked[0] != OTHER.marked(PROMPT)[0] != PROMPT[0] == NO_ADAPTERS.marked(PROMPT)[0]


def test_each_answer_is_that_of_its_own_adapters() -> None:
    runner = FakeRunner()
    engine = make_engine(runner)
    sets = [ONE, NO_ADAPTERS, OTHER, ONE]
    for request_id, adapters in enumerate(sets):
        engine.submit(ask(request_id, adapters, 8))
    found = answers(run_to_end(engine))
    assert found == {at: answer_alone(PROMPT, 8, 64, adapters) for at, adapters in enumerate(sets)}
    assert found[0] == found[3]
    assert len({tuple(each) for each in found.values()}) == 3


def test_prefixes_are_those_of_the_same_adapters_alone() -> None:
    """In the cache and in host memory: exact counts of what is computed."""
    for max_kept, max_host_bytes in ((200, 0), (0, MANY_BYTES)):
        runner = FakeRunner()
        engine = make_engine(runner, max_kept=max_kept, max_host_bytes=max_host_bytes)
        num_rows = []
        for request_id, adapters in enumerate([ONE, OTHER, NO_ADAPTERS, ONE, OTHER, NO_ADAPTERS]):
            before = runner.num_prefilled_tokens
            engine.submit(ask(request_id, adapters, 1))
            run_to_end(engine)
            num_rows.append(runner.num_prefilled_tokens - before)
        assert num_rows == [40, 40, 40, 1, 1, 1]


def test_two_prompts_in_progress_share_within_their_adapters() -> None:
    runner = FakeRunner(max_rows=16)
    engine = make_engine(runner)
    for request_id, adapters in enumerate([ONE, ONE, OTHER, OTHER]):
        engine.submit(ask(request_id, adapters, 1))
    run_to_end(engine)
    assert runner.num_prefilled_tokens == 2 * (40 + 1)


def test_a_set_keeps_the_steps_for_its_time() -> None:
    """1/64 s a step, 1/8 s a turn."""
    runner = FakeRunner(cost_ms=lambda _num_rows: 1000 / 64)
    engine = make_engine(runner, max_stall_ms=125)
    for request_id, adapters in enumerate([ONE, OTHER]):
        engine.submit(ask(request_id, adapters, 20, prompt=PROMPT[:4]))
    found = answers(run_to_end(engine))
    turns = steps_in_a_row(runner)
    assert [key for key, _ in turns] == 3 * [ONE.key, OTHER.key]
    assert [steps for _, steps in turns] == [8, 8, 8, 8, 4, 5]  # a prompt took two
    assert runner.num_changes == 6
    assert {len(tokens) for tokens in found.values()} == {20}


def test_one_set_alone_is_never_interrupted() -> None:
    runner = FakeRunner(cost_ms=lambda _num_rows: 10.0)
    engine = make_engine(runner, max_stall_ms=50)
    for request_id in range(3):
        engine.submit(ask(request_id, ONE, 20, prompt=PROMPT[:4]))
    run_to_end(engine)
    assert runner.num_changes == 1


def test_nobody_starves_whatever_others_have_to_compute() -> None:
    """A stream of one set goes on beside long prompts of two others, which are computed in
    steps no longer than its turn.
    """
    runner = FakeRunner(num_cells=2000, max_rows=500, cost_ms=float)
    engine = make_engine(runner, ctx=600, max_stall_ms=50)
    engine.learn_curve(1.0)
    runner.adapters_of_batches.clear()
    engine.submit(ask(0, ONE, 40, prompt=PROMPT[:4]))
    for request_id, adapters in ((1, OTHER), (2, THIRD)):
        engine.submit(ask(request_id, adapters, 4, prompt=[2 + at % 40 for at in range(500)]))
    times_s: list[float] = []
    while engine.has_work:
        for output in engine.step():
            if output.request_id == 0:
                times_s.append(runner.now_s)
    pauses_ms = [1000 * (b - a) for a, b in pairwise(times_s)]
    assert len(times_s) == 40
    assert max(pauses_ms) <= 2 * 100 + 2  # two turns of two steps each at most, and its own
    assert {key for key, _ in steps_in_a_row(runner)} == {ONE.key, OTHER.key, THIRD.key}


def test_preempted_ones_go_on_with_their_own() -> None:
    runner = FakeRunner(num_cells=100, cost_ms=lambda _num_rows: 10.0)
    engine = make_engine(runner, ctx=90, max_stall_ms=30, max_host_bytes=MANY_BYTES)
    sets = [ONE, OTHER, ONE]
    for request_id, adapters in enumerate(sets):
        engine.submit(ask(request_id, adapters, 40, prompt=PROMPT[request_id : request_id + 20]))
    num_preempted = 0
    outputs: list[Output] = []
    while engine.has_work:
        outputs += engine.step()
        num_preempted = max(num_preempted, engine.num_preempted)
    assert num_preempted > 0
    alone = {}
    for request_id, adapters in enumerate(sets):
        one = make_engine(FakeRunner(num_cells=100), ctx=90)
        prompt = PROMPT[request_id : request_id + 20]
        one.submit(ask(request_id, adapters, 40, prompt=prompt))
        alone |= answers(run_to_end(one))
    assert answers(outputs) == alone
