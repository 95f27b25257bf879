"""What a runner's choices become: tokens with their log-probabilities, or the end of
that one request.
"""

from __future__ import annotations

from appliance.engine.outputs import Broken, Sampled
from appliance.engine.requests import EngineRequest
from appliance.engine.runner import Logprobs, TokenLogprob
from appliance.errors import DecodeFailed
from appliance.protocol.events import FinishReason
from appliance.protocol.sampling import SamplingParams
from tests.engine.engines import ENDLESS, finished, make_engine, request, run_to_end
from tests.engine.fake_runner import FakeRunner

PROMPT = [1 + at % 40 for at in range(100)]


def test_logprobs_arrive_with_the_tokens_of_those_who_asked() -> None:
    engine = make_engine(FakeRunner())
    asked = SamplingParams(ignore_eos=True, num_top_logprobs=2)
    engine.submit(EngineRequest(request_id=1, prompt=[1, 2], sampling=asked, max_new_tokens=1))
    engine.submit(EngineRequest(request_id=2, prompt=[3, 4], sampling=ENDLESS, max_new_tokens=1))
    one, other = run_to_end(engine)
    assert isinstance(one, Sampled)
    assert isinstance(other, Sampled)
    assert one.logprobs == Logprobs(
        -0.5, (TokenLogprob(one.token, -0.5), TokenLogprob(one.token + 1, -1.5))
    )
    assert other.logprobs is None


def test_logits_that_are_no_numbers_end_their_request_and_no_other() -> None:
    runner = FakeRunner(num_slots=3)
    engine = make_engine(runner, max_kept=100)
    for request_id in (1, 2, 3):
        engine.submit(request(request_id))
    engine.step()
    runner.slots_without_numbers = {1}
    outputs = engine.step()
    assert [type(output) for output in outputs] == [Sampled, Broken, Sampled]
    [broken] = [output for output in outputs if isinstance(output, Broken)]
    assert (broken.request_id, type(broken.error)) == (2, DecodeFailed)
    assert sorted(runner.cells) == [0, 2], "nothing of what brought no numbers is kept"
    runner.slots_without_numbers = set()
    assert finished(run_to_end(engine)) == {1: FinishReason.LENGTH, 3: FinishReason.LENGTH}
    assert engine.num_used_cells == runner.num_used_cells


def test_several_answers_to_one_prompt_compute_it_once() -> None:
    """n = 4: the prompt once, its last token again for each of the others, and each
    answer but for its last token.
    """
    runner = FakeRunner(num_cells=1024, num_slots=4, max_rows=32)
    engine = make_engine(runner, ctx=256)
    for request_id in range(4):
        engine.submit(
            EngineRequest(request_id=request_id, prompt=PROMPT, sampling=ENDLESS, max_new_tokens=5)
        )
    outputs = run_to_end(engine)
    cached = {o.request_id: o.num_cached_tokens for o in outputs if isinstance(o, Sampled)}
    assert cached == {0: 0, 1: 99, 2: 99, 3: 99}
    assert runner.num_prefilled_tokens == 100 + 3 + 4 * 4
