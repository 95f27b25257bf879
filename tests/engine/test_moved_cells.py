"""Cells behind a changed piece of a prompt, moved: who gets them, and who never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.engine.engine import Engine
from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.engine.scoring import Prefilled
from tests.engine.engines import ENDLESS, MANY_BYTES, make_engine, run_to_end
from tests.engine.fake_runner import FakeRunner, answer_alone

MIN = 16
REST = [1 + at % 37 for at in range(60)]
TAIL = [40 + at % 9 for at in range(40)]


def engine_of(runner: FakeRunner, max_kept: int = 1000, max_host_bytes: int = MANY_BYTES) -> Engine:
    return make_engine(runner, ctx=250, max_kept=max_kept, max_host_bytes=max_host_bytes)


def a_runner(num_cells: int = 1000) -> FakeRunner:
    return FakeRunner(num_cells=num_cells, num_slots=4, max_rows=64)


def asked(request_id: int, prompt: list[int], min_moved: int = MIN) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=prompt,
        sampling=ENDLESS,
        max_new_tokens=3,
        min_moved_tokens=min_moved,
    )


def run(engine: Engine, request: EngineRequest) -> tuple[int, int]:
    """Tokens of the prompt that were cached, and how many of these were moved."""
    engine.submit(request)
    outputs = [each for each in run_to_end(engine) if isinstance(each, Sampled)]
    [counts] = {(each.num_cached_tokens, each.num_moved_tokens) for each in outputs}
    return counts


@pytest.mark.parametrize("max_kept", [1000, 0], ids=["from the cache", "from host memory"])
@pytest.mark.parametrize("now", [[44, 45], [44], [44, 45, 46, 47]])
def test_only_the_changed_piece_and_the_last_token_are_computed(
    max_kept: int, now: list[int]
) -> None:
    runner = a_runner()
    engine = engine_of(runner, max_kept)
    assert run(engine, asked(1, [9, 41, 42, *REST])) == (0, 0)
    num_rows = runner.num_prefilled_tokens
    prompt = [9, *now, *REST]
    num_first = int(max_kept > 0)  # so few tokens are not read back from host memory
    assert run(engine, asked(2, prompt)) == (num_first + len(REST) - 1, len(REST) - 1)
    num_rows = runner.num_prefilled_tokens - num_rows
    assert num_rows == 1 - num_first + len(now) + 1 + 2, "and two of the answer"


def test_several_changed_pieces_are_computed_one_after_the_other() -> None:
    runner = a_runner()
    engine = engine_of(runner)
    run(engine, asked(1, [9, 1, *REST, 2, *TAIL, 3]))
    prompt = [9, 5, 5, *REST, 6, 6, *TAIL, 7, 7]
    assert run(engine, asked(2, prompt)) == (1 + 60 + 40, 60 + 40)


def test_runs_that_are_too_short_are_computed() -> None:
    runner = a_runner()
    engine = engine_of(runner)
    run(engine, asked(1, [9, 41, *REST[: MIN - 1], 8]))
    assert run(engine, asked(2, [9, 42, *REST[: MIN - 1], 7])) == (1, 0)
    assert runner.num_moved_tokens == 0


def test_nobody_gets_moved_cells_who_did_not_ask_for_them() -> None:
    runner = a_runner()
    engine = engine_of(runner)
    run(engine, asked(1, [9, 41, *REST]))
    moved = [9, 42, 43, *REST]
    assert run(engine, asked(2, moved))[1] == len(REST) - 1
    num_rows = runner.num_prefilled_tokens
    num_before = 3  # the changed piece was computed after the same beginning
    assert run(engine, asked(3, moved, min_moved=0)) == (num_before, 0)
    assert runner.num_prefilled_tokens - num_rows == len(moved) - num_before + 2
    assert run(engine, asked(4, moved, min_moved=0)) == (len(moved) - 1, 0), "it left a prefix"


def test_the_next_turn_goes_on_from_moved_cells_where_it_may() -> None:
    runner = a_runner()
    engine = engine_of(runner)
    run(engine, asked(1, [9, 41, *REST]))
    prompt = [9, 42, *REST]
    run(engine, asked(2, prompt))
    answer = answer_alone(prompt, 3, 250)
    turn = [*prompt, *answer, 31, 32]
    # the answer's last token has no cell, and no run is that short
    assert run(engine, asked(3, turn))[0] == len(prompt) + 2


def test_a_prefix_that_was_moved_from_stays_as_it_was() -> None:
    runner = a_runner()
    engine = engine_of(runner)
    first = [9, 41, *REST]
    run(engine, asked(1, first))
    run(engine, asked(2, [9, 42, 43, *REST]))
    exact, moved = sorted(runner.cells, key=runner.num_exact, reverse=True)
    assert runner.num_exact(exact) == len(runner.cells[exact]) == len(first) + 2
    assert runner.num_exact(moved) == 3
    assert run(engine, asked(3, first, min_moved=0)) == (len(first) - 1, 0)


def test_moved_cells_are_neither_written_to_disk_nor_to_a_slots_file() -> None:
    runner = FakeRunner(num_cells=1000, num_slots=1, max_rows=64)
    engine = make_engine(runner, ctx=900, max_kept=1000, max_host_bytes=MANY_BYTES)
    rest = [1 + at % 37 for at in range(300)]
    keeping = replace(asked(1, [9, 41, *rest]), keeps_prefix=True)
    run(engine, keeping)
    run(engine, replace(asked(2, [9, 42, 43, *rest]), keeps_prefix=True))
    assert engine.cells.left.copy(0, MANY_BYTES) == []
    saved = engine.next_for_disk()
    assert saved is not None
    assert saved.tokens[: len(keeping.prompt)] == keeping.prompt
    saved.on_disk = True
    assert engine.next_for_disk() is None
    assert engine.cells.left.erase(0) == 303 + 2


def test_who_runs_with_moved_cells_is_no_prompt_to_wait_for() -> None:
    runner = FakeRunner(num_cells=1000, num_slots=4, max_rows=8)
    engine = engine_of(runner)
    run(engine, asked(1, [9, 41, *REST]))
    prompt = [9, 42, 43, *REST, *TAIL]
    engine.submit(asked(2, prompt))
    engine.step()
    engine.submit(asked(3, prompt, min_moved=0))
    answered = [each for each in run_to_end(engine) if isinstance(each, Sampled)]
    assert {each.num_cached_tokens for each in answered if each.request_id == 3} == {3}


def test_a_preempted_one_is_computed_again() -> None:
    runner = FakeRunner(num_cells=150, num_slots=2, max_rows=64)
    engine = make_engine(runner, ctx=140, max_kept=70, max_host_bytes=MANY_BYTES)
    run(engine, asked(1, [9, 41, *REST]))
    engine.submit(replace(asked(2, [7] * 20, min_moved=0), max_new_tokens=100))
    engine.step()
    engine.submit(replace(asked(3, [9, 42, *REST]), max_new_tokens=70))
    most_preempted = 0
    outputs = []
    while engine.has_work:
        outputs += engine.step()
        most_preempted = max(most_preempted, engine.num_preempted)
    assert most_preempted == 1
    answers = [o.token for o in outputs if isinstance(o, Sampled) and o.request_id == 3]
    assert answers == _endless([9, 42, *REST], 70)
    counts = {o.num_cached_tokens for o in outputs if isinstance(o, Sampled) and o.request_id == 3}
    assert counts == {len(REST)}, "counted once"


def test_a_model_whose_cells_stay_computes_everything() -> None:
    runner = a_runner()
    runner.capabilities = replace(runner.capabilities, why_cells_stay="as the test wished")
    engine = engine_of(runner)
    run(engine, asked(1, [9, 41, *REST]))
    assert run(engine, asked(2, [9, 42, *REST])) == (1, 0)


def test_a_prompt_without_an_answer_counts_them_too() -> None:
    engine = engine_of(a_runner())
    run(engine, asked(1, [9, 41, *REST]))
    engine.submit(replace(asked(2, [9, 42, *REST]), max_new_tokens=0))
    [end] = [each for each in run_to_end(engine) if isinstance(each, Prefilled)]
    assert (end.num_cached_tokens, end.num_moved_tokens) == (len(REST), len(REST) - 1)


def _endless(prompt: list[int], num_new: int) -> list[int]:
    tokens = list(prompt)
    while len(tokens) < len(prompt) + num_new:
        [token] = answer_alone(tokens, 1, 10_000)
        tokens.append(token + (token == 0))
    return tokens[len(prompt) :]
