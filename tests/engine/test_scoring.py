"""A prompt's own tokens are scored:
each once, in order, exactly, whoever is computed beside it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.engine.engine import Engine
from appliance.engine.outputs import Broken, Output, Sampled
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import Logprobs, TokenLogprob
from appliance.engine.scoring import Prefilled, ScoredToken
from appliance.errors import DecodeFailed
from appliance.protocol.events import FinishReason
from appliance.protocol.sampling import SamplingParams
from tests.engine.engines import ENDLESS, MANY_BYTES, make_engine, request, run_to_end
from tests.engine.expected_scores import expected_scores
from tests.engine.fake_drafting import FakeDrafting
from tests.engine.fake_runner import FakeRunner, score_of

PROMPT = [1 + at % 40 for at in range(100)]
SCORED = SamplingParams(ignore_eos=True, num_top_logprobs=0)


def ask(request_id: int, max_new_tokens: int = 1, prompt: list[int] = PROMPT) -> EngineRequest:
    return EngineRequest(
        request_id=request_id,
        prompt=prompt,
        sampling=SCORED,
        max_new_tokens=max_new_tokens,
        scores_prompt=True,
    )


def scores(outputs: list[Output], request_id: int) -> list[ScoredToken]:
    prefilled = (o for o in outputs if isinstance(o, Prefilled) and o.request_id == request_id)
    return [token for output in prefilled for token in output.scored]


def kinds(outputs: list[Output]) -> list[tuple[type[Output], FinishReason | None]]:
    return [(type(o), None if isinstance(o, Broken) else o.finish_reason) for o in outputs]


def test_every_token_but_the_first_and_then_the_answer() -> None:
    runner = FakeRunner(num_cells=256, max_rows=64)
    engine = make_engine(runner, ctx=256)
    engine.submit(
        replace(ask(1, 2), prompt=PROMPT[:4], sampling=replace(SCORED, num_top_logprobs=2))
    )
    outputs = run_to_end(engine)
    assert kinds(outputs) == [(Prefilled, None), (Sampled, None), (Sampled, FinishReason.LENGTH)]
    top = (TokenLogprob(0, 0), TokenLogprob(1, -1))
    assert scores(outputs, 1) == [
        ScoredToken(1, None),
        *(ScoredToken(token, Logprobs(score_of(PROMPT[:token]), top)) for token in (2, 3, 4)),
    ]


@pytest.mark.parametrize("num_prompt_tokens", [1, 2, 100])
def test_with_no_answer_wanted_that_is_all(num_prompt_tokens: int) -> None:
    runner = FakeRunner(num_cells=256)
    engine = make_engine(runner, ctx=256)
    prompt = PROMPT[:num_prompt_tokens]
    engine.submit(ask(1, 0, prompt))
    outputs = run_to_end(engine)
    assert scores(outputs, 1) == expected_scores(prompt)
    assert kinds(outputs)[-1] == (Prefilled, FinishReason.LENGTH)
    assert (engine.num_sampled_tokens, runner.num_prefilled_tokens, runner.cells) == (
        0,
        num_prompt_tokens,
        {},
    )


def test_a_prompt_alone_is_computed_and_kept_without_any_score() -> None:
    engine = make_engine(FakeRunner(num_cells=256), ctx=256, max_kept=200)
    engine.submit(EngineRequest(request_id=1, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=0))
    assert run_to_end(engine) == [
        Prefilled(1, (), 0, FinishReason.LENGTH, num_prefilled_tokens=len(PROMPT))
    ]
    engine.submit(EngineRequest(request_id=2, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=1))
    [answer] = run_to_end(engine)
    assert isinstance(answer, Sampled)
    assert answer.num_cached_tokens == 99


def test_what_is_cached_is_computed_again_for_its_logits_and_kept_for_others() -> None:
    runner = FakeRunner(num_cells=1024)
    engine = make_engine(runner, ctx=256, max_kept=500)
    for made in (
        EngineRequest(request_id=1, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=1),
        ask(2),
        EngineRequest(request_id=3, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=1),
    ):
        engine.submit(made)
        outputs = run_to_end(engine)
        last = outputs[-1]
        assert isinstance(last, Sampled)
        assert last.num_cached_tokens == (99 if made.request_id == 3 else 0)
        assert scores(outputs, made.request_id) == (
            expected_scores(PROMPT) if made.scores_prompt else []
        )
    assert runner.num_prefilled_tokens == 100 + 100 + 1
    assert engine.num_used_cells == runner.num_used_cells == 100


def test_two_together_with_one_prompt_each_get_their_scores() -> None:
    engine = make_engine(FakeRunner(num_cells=1024), ctx=256)
    for request_id in (1, 2):
        engine.submit(ask(request_id, 0))
    outputs = run_to_end(engine)
    assert scores(outputs, 1) == scores(outputs, 2) == expected_scores(PROMPT)


def test_logits_are_read_of_as_many_rows_as_memory_was_planned_for_and_streams_go_on() -> None:
    """Three slots and four drafted tokens: eight rows.

    One of them decodes; the prompt has the other seven.
    """
    runner = FakeRunner(num_cells=1024, num_slots=3, max_rows=64, max_draft_rows=4)
    engine = make_engine(runner, ctx=256)
    engine.submit(request(1, max_new_tokens=200))
    engine.step()
    engine.submit(ask(2, 0))
    engine.step()
    assert [row.slot for row in runner.batches[-1].rows] == [0, *[1] * 7]
    outputs = run_to_end(engine)
    assert len(runner.batches) - 1 == 200 - 1, "no step went by without the stream's token"
    assert len([o for o in outputs if isinstance(o, Prefilled)]) == -(-100 // 7) - 1


def test_drafted_tokens_have_what_the_prompt_leaves() -> None:
    runner = FakeRunner(num_cells=1024, num_slots=3, max_rows=64, max_draft_rows=8)
    engine = make_engine(runner, ctx=256, drafting=FakeDrafting(1.0, 6))
    engine.submit(request(1, max_new_tokens=100))
    engine.step()
    engine.submit(ask(2, 0))
    outputs = run_to_end(engine)
    assert scores(outputs, 2) == expected_scores(PROMPT)
    assert max(sum(row.wants_logits for row in batch.rows) for batch in runner.batches) == 3 + 1 + 8


def test_preempted_it_goes_on_where_it_was_and_tells_nothing_twice() -> None:
    runner = FakeRunner(num_cells=133, num_slots=2, max_rows=16)
    engine = make_engine(runner, ctx=133, max_host_bytes=MANY_BYTES)
    engine.submit(request(1, num_prompt_tokens=8, max_new_tokens=60))
    engine.step()
    prompt = PROMPT[:90]
    engine.submit(ask(2, 20, prompt))
    outputs, was_preempted = [], False
    while engine.has_work:
        outputs += engine.step()
        was_preempted |= engine.num_preempted > 0
    assert was_preempted
    assert scores(outputs, 2) == expected_scores(prompt)


def test_logits_that_are_no_numbers_end_this_request_alone() -> None:
    runner = FakeRunner(num_cells=1024, num_slots=2)
    engine = make_engine(runner, ctx=256, max_kept=500)
    engine.submit(request(1, max_new_tokens=50))
    engine.step()
    engine.submit(ask(2))
    runner.slots_without_numbers = {1}
    outputs = engine.step()
    assert [(type(o), o.request_id) for o in outputs] == [(Broken, 2), (Sampled, 1)]
    [broken] = [o for o in outputs if isinstance(o, Broken)]
    assert isinstance(broken.error, DecodeFailed)
    assert _all_free(engine, runner)


def _all_free(engine: Engine, runner: FakeRunner) -> bool:
    run_to_end(engine)
    return engine.num_used_cells == runner.num_used_cells
