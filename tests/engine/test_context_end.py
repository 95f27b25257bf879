"""The end of the context: the answer ends with `length`, or, where asked for, the
oldest tokens go.
"""

from __future__ import annotations

from appliance.engine.outputs import Sampled
from appliance.engine.requests import EngineRequest
from appliance.protocol.events import FinishReason
from tests.engine.engines import ENDLESS, make_engine, run_to_end
from tests.engine.fake_runner import FakeRunner, next_token

PROMPT = [5, 6, 7, 8]
CTX = 20


def answer(
    runner: FakeRunner, *, shifts_context: bool, max_new_tokens: int | None
) -> list[Sampled]:
    engine = make_engine(runner, ctx=CTX, max_kept=100)
    engine.submit(
        EngineRequest(
            request_id=1,
            prompt=PROMPT,
            sampling=ENDLESS,
            max_new_tokens=max_new_tokens,
            shifts_context=shifts_context,
        )
    )
    outputs = run_to_end(engine)
    assert engine.num_used_cells == runner.num_used_cells
    return [o for o in outputs if isinstance(o, Sampled)]


def test_without_a_wish_the_answer_ends_with_length() -> None:
    outputs = answer(FakeRunner(), shifts_context=False, max_new_tokens=100)
    assert (len(outputs), outputs[-1].finish_reason) == (16, FinishReason.LENGTH)
    assert outputs[-1].num_discarded_tokens == 0


def test_a_shift_keeps_the_prompts_beginning_and_half_of_the_rest_and_says_so() -> None:
    runner = FakeRunner()
    outputs = answer(runner, shifts_context=True, max_new_tokens=40)
    assert (len(outputs), outputs[-1].finish_reason) == (40, FinishReason.LENGTH)
    tokens, expected, num_discarded = list(PROMPT), [], 0
    for _ in range(40):
        token = next_token(tokens)
        tokens.append(token + (token == 0))
        expected.append(tokens[-1])
        if len(tokens) == CTX:
            del tokens[4:12]
            num_discarded += 8
    assert [o.token for o in outputs] == expected
    # Full after 16 new tokens, then after every 8: at 16, 24, 32 and 40. Nothing is
    # discarded behind the last.
    assert outputs[-1].num_discarded_tokens == num_discarded - 8 == 24
    assert outputs[15].num_discarded_tokens == 0
    assert outputs[16].num_discarded_tokens == 8
    # What moves is computed again: seven tokens more than without each of the three
    # shifts; the prompt is known.
    assert runner.num_prefilled_tokens == 4 + 39 + 3 * 7


def test_a_prompt_that_fills_the_context_keeps_its_first_half() -> None:
    runner = FakeRunner()
    engine = make_engine(runner, ctx=CTX)
    engine.submit(
        EngineRequest(
            request_id=1,
            prompt=[1 + at for at in range(19)],
            sampling=ENDLESS,
            max_new_tokens=5,
            shifts_context=True,
        )
    )
    outputs = [o for o in run_to_end(engine) if isinstance(o, Sampled)]
    assert [o.num_discarded_tokens for o in outputs] == [0, 5, 5, 5, 5]


def test_who_waits_for_a_prompt_goes_on_from_it_before_it_is_shifted() -> None:
    runner = FakeRunner(num_slots=2)
    engine = make_engine(runner, ctx=CTX)
    prompt = [1 + at for at in range(19)]
    engine.submit(
        EngineRequest(
            request_id=1, prompt=prompt, sampling=ENDLESS, max_new_tokens=40, shifts_context=True
        )
    )
    engine.submit(EngineRequest(request_id=2, prompt=prompt, sampling=ENDLESS, max_new_tokens=1))
    first = engine.step()
    second = engine.step()
    assert [o.request_id for o in first if isinstance(o, Sampled)] == [1]
    assert [
        (o.request_id, o.num_cached_tokens)
        for o in second
        if o.request_id == 2 and isinstance(o, Sampled)
    ] == [(2, 18)]
