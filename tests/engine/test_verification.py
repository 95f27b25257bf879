"""Drafted tokens in a step: the answer is as without, right ones save steps, wrong ones
leave nothing behind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.protocol.events import FinishReason
from appliance.protocol.sampling import SamplingParams
from tests.engine.engines import ENDLESS, finished, make_engine, request, run_to_end
from tests.engine.fake_drafting import FakeDrafting
from tests.engine.fake_runner import FakeRunner, answer_alone

PROMPT = [5, 6, 7]


def tokens_of(outputs: list[object], request_id: int) -> list[int]:
    return [o.token for o in outputs if isinstance(o, Sampled) and o.request_id == request_id]


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_answers_do_not_depend_on_drafts(chance: float) -> None:
    answers = []
    for drafting in (None, FakeDrafting(chance, 5)):
        runner = FakeRunner(num_slots=3, max_draft_rows=8)
        engine = make_engine(runner, drafting=drafting)
        for request_id in range(5):
            engine.submit(request(request_id, max_new_tokens=17))
        outputs = run_to_end(engine)
        answers.append(
            {request_id: tokens_of(list(outputs), request_id) for request_id in range(5)}
        )
        assert finished(outputs) == dict.fromkeys(range(5), FinishReason.LENGTH)
        assert engine.num_used_cells == runner.num_used_cells == 0
    assert answers[0] == answers[1]


def test_each_step_brings_the_accepted_tokens_and_one_more() -> None:
    runner = FakeRunner(num_slots=1, max_draft_rows=3)
    drafting = FakeDrafting(1.0, 3, seed=1)
    engine = make_engine(runner, drafting=drafting)
    engine.submit(EngineRequest(request_id=1, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=20))
    outputs = run_to_end(engine)
    assert [o.num_new_tokens for o in outputs if isinstance(o, Sampled)] == list(range(1, 21))
    assert engine.num_steps == 20 - drafting.num_accepted
    assert drafting.num_accepted > 8
    assert engine.num_sampled_tokens == 20


def test_an_end_token_that_was_drafted_ends_the_answer_and_nothing_comes_behind_it() -> None:
    alone = answer_alone([9, 9], 60, 64)
    assert alone[-1] == 0, "a prompt whose answer the fake model ends itself"
    runner = FakeRunner(num_slots=1, max_draft_rows=6)
    engine = make_engine(runner, drafting=FakeDrafting(1.0, 6, seed=4), max_kept=100)
    engine.submit(
        EngineRequest(request_id=1, prompt=[9, 9], sampling=SamplingParams(), max_new_tokens=None)
    )
    outputs = run_to_end(engine)
    assert tokens_of(list(outputs), 1) == alone
    assert finished(outputs) == {1: FinishReason.STOP}
    assert engine.num_used_cells == runner.num_used_cells


def test_drafts_take_only_cells_that_are_free_and_give_them_back() -> None:
    runner = FakeRunner(num_cells=32, num_slots=2, max_draft_rows=16)
    engine = make_engine(runner, drafting=FakeDrafting(0.0, 16))
    for request_id in (1, 2):
        engine.submit(request(request_id, num_prompt_tokens=4, max_new_tokens=12))
    while engine.has_work:
        engine.step()
        assert engine.num_used_cells == runner.num_used_cells
        assert engine.num_preempted == 0
    assert runner.num_taken_back > 0


def test_a_runner_that_cannot_take_rows_back_gets_no_drafts() -> None:
    runner = FakeRunner(num_slots=1, max_draft_rows=0)
    engine = make_engine(runner, drafting=FakeDrafting(1.0, 4))
    engine.submit(EngineRequest(request_id=1, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=6))
    run_to_end(engine)
    assert [len(batch) for batch in runner.batches] == [3, 1, 1, 1, 1, 1]


def test_where_rows_have_to_be_equal_all_are_drafted_as_deep_or_nobody_is() -> None:
    answers = []
    for drafting in (None, FakeDrafting(0.7, 5)):
        runner = FakeRunner(num_slots=3, max_draft_rows=12)
        runner.capabilities = replace(runner.capabilities, wants_equal_rows=True, max_draft_depth=2)
        engine = make_engine(runner, drafting=drafting)
        for request_id in range(5):
            engine.submit(request(request_id, max_new_tokens=17 + request_id))
        answers.append(tokens_of(list(run_to_end(engine)), 3))
        for batch in runner.batches:
            if sum(row.wants_logits for row in batch.rows) > batch.num_slots:
                counts = Counter(row.slot for row in batch.rows)
                assert set(counts.values()) <= {2, 3}
                assert len(set(counts.values())) == 1
    assert answers[0] == answers[1]
    assert runner.num_taken_back > 0


def test_who_leaves_its_slot_is_released() -> None:
    runner = FakeRunner(num_slots=2, max_draft_rows=4)
    drafting = FakeDrafting(0.5, 4)
    engine = make_engine(runner, drafting=drafting)
    engine.submit(request(1, max_new_tokens=3))
    engine.submit(request(2, max_new_tokens=30))
    engine.step()
    engine.finish(2)
    run_to_end(engine)
    assert sorted(drafting.released) == [1, 2]
