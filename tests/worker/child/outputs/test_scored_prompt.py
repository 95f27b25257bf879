"""A scored prompt's tokens as events: text in whole characters, offsets that go on into
the answer.
"""

from __future__ import annotations

from appliance.engine.outputs import Output, Sampled
from appliance.engine.runner import Logprobs, TokenLogprob
from appliance.engine.scoring import Prefilled, ScoredToken
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    SampledToken,
    Usage,
)
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.worker.child.outputs.text_outputs import TextOutputs

PIECES = {1: b"", 2: b"a\xc3", 3: b"\xa9", 4: b"stop", 5: b"\xc3"}
LOGPROBS = Logprobs(-1.0, (TokenLogprob(4, -0.5),))
TOP = [LikelyToken(b"stop", -0.5, id=4)]
IDS = {piece: token for token, piece in PIECES.items()}


def events_of(*outputs: Output, stop: list[str] | None = None) -> list[Event]:
    texts = TextOutputs(PIECES.__getitem__, lambda _request_id: None, lambda token: f"<{token}>")
    scored = [
        one.token for output in outputs if isinstance(output, Prefilled) for one in output.scored
    ]
    prompt = [*scored, *[1] * (4 - len(scored))]
    request = GenerateRequest(prompt=TextPrompt(""), stop=stop or [], scores_prompt=True)
    texts.start(1, prompt, request)
    return texts.events([*outputs])


def token(piece: bytes, offset: int) -> SampledToken:
    return SampledToken(LikelyToken(piece, -1.0, id=IDS[piece]), TOP, offset)


BOS = SampledToken(LikelyToken(b"<1>", None, True, 1), [], 0)


def test_a_prompt_comes_in_whole_characters_and_the_answer_goes_on_from_it() -> None:
    assert events_of(
        Prefilled(1, (ScoredToken(1, None), ScoredToken(2, LOGPROBS)), 0),
        Prefilled(1, (ScoredToken(3, LOGPROBS),), 0),
        Sampled(
            request_id=1,
            token=4,
            num_new_tokens=1,
            num_cached_tokens=0,
            finish_reason=FinishReason.LENGTH,
            logprobs=LOGPROBS,
        ),
    ) == [
        Delta(request_id=1, text="a", num_tokens=0, tokens=[BOS, token(b"a\xc3", 0)]),
        Delta(request_id=1, text="é", num_tokens=0, tokens=[token(b"\xa9", 1)]),
        Delta(request_id=1, text="stop", num_tokens=1, tokens=[token(b"stop", 2)]),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=4, num_cached_tokens=0, num_completion_tokens=1),
        ),
    ]


def test_the_token_that_ends_the_answer_is_emitted_too() -> None:
    assert events_of(
        Prefilled(1, (ScoredToken(4, None),), 0),
        Sampled(
            request_id=1,
            token=1,
            num_new_tokens=1,
            num_cached_tokens=0,
            finish_reason=FinishReason.STOP,
            logprobs=LOGPROBS,
        ),
    ) == [
        Delta(
            request_id=1,
            text="stop",
            num_tokens=0,
            tokens=[SampledToken(LikelyToken(b"stop", None, id=4), [], 0)],
        ),
        Delta(
            request_id=1,
            text="",
            num_tokens=1,
            tokens=[SampledToken(LikelyToken(b"<1>", -1.0, True, 1), TOP, 4)],
        ),
        Finished(
            request_id=1,
            reason=FinishReason.STOP,
            usage=Usage(num_prompt_tokens=4, num_cached_tokens=0, num_completion_tokens=1),
        ),
    ]


def test_a_stop_string_in_the_prompt_ends_nothing() -> None:
    assert events_of(
        Prefilled(1, (ScoredToken(1, None), ScoredToken(4, LOGPROBS)), 0, FinishReason.LENGTH),
        stop=["stop"],
    ) == [
        Delta(request_id=1, text="stop", num_tokens=0, tokens=[BOS, token(b"stop", 0)]),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=4, num_cached_tokens=0, num_completion_tokens=0),
        ),
    ]


def test_a_prompt_that_ends_within_a_character_is_emitted_to_its_end() -> None:
    assert events_of(
        Prefilled(1, (ScoredToken(1, None), ScoredToken(5, LOGPROBS)), 0, FinishReason.LENGTH),
    ) == [
        Delta(
            request_id=1,
            text="\N{REPLACEMENT CHARACTER}",
            num_tokens=0,
            tokens=[BOS, token(b"\xc3", 0)],
        ),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=4, num_cached_tokens=0, num_completion_tokens=0),
        ),
    ]
