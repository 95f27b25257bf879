"""Tokens are emitted with the text that comes from them:
not before, and not those that a stop string cut off.
"""

from __future__ import annotations

import pytest

from appliance.engine.outputs import Sampled
from appliance.engine.runner import Logprobs, TokenLogprob
from appliance.engine.scoring import Prefilled
from appliance.protocol.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    LikelyToken,
    PromptProgress,
    Started,
    Usage,
)
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.worker.child.outputs.text_outputs import TextOutputs

PIECES = {
    1: b"Hi",
    2: b" \xe6",
    3: b"\xbc",
    4: b"\xa2",
    5: b" ST",
    6: b"OP now",
    7: b"",
    8: b"ART",
    0: b"",
}
NAMES = {0: "<|end|>", 7: "<|think|>"}
END = 0


def answer(
    tokens: list[int],
    stop: list[str],
    reason: FinishReason = FinishReason.LENGTH,
    *,
    reports_tokens: bool = False,
    has_logprobs: bool = True,
) -> list[Event]:
    """The events of one answer whose tokens have the log-probability -1, -2, ..., and
    the end token as alternative.
    """
    finished: list[int] = []
    outputs = TextOutputs(PIECES.__getitem__, finished.append, NAMES.__getitem__)
    request = GenerateRequest(prompt=TextPrompt(""), stop=stop, reports_tokens=reports_tokens)
    events: list[Event] = [outputs.start(1, [0, 0, 0], request)]
    for number, token in enumerate(tokens, start=1):
        logprobs = Logprobs(-float(number), (TokenLogprob(END, -0.5),)) if has_logprobs else None
        last = reason if number == len(tokens) else None
        events += outputs.events(
            [
                Sampled(
                    request_id=1,
                    token=token,
                    num_new_tokens=number,
                    num_cached_tokens=0,
                    finish_reason=last,
                    logprobs=logprobs,
                )
            ]
        )
        if finished:
            break
    return events


def deltas_of(events: list[Event]) -> list[Delta]:
    return [event for event in events if isinstance(event, Delta)]


def emitted(events: list[Event]) -> list[tuple[str, list[tuple[bytes, float, int]]]]:
    return [
        (
            event.text,
            [(t.chosen.piece, t.chosen.logprob, t.text_offset) for t in event.tokens or []],
        )
        for event in deltas_of(events)
    ]


def test_each_token_is_emitted_with_its_text() -> None:
    events = answer([1, 1, END], [], FinishReason.STOP)
    assert emitted(events) == [("Hi", [(b"Hi", -1.0, 0)]), ("Hi", [(b"Hi", -2.0, 2)])]
    [first, _] = deltas_of(events)
    assert first.tokens is not None
    assert first.tokens[0].top == [LikelyToken(b"<|end|>", -0.5, is_control=True, id=END)]
    assert isinstance(events[-1], Finished)


def test_the_parts_of_a_character_are_emitted_with_it() -> None:
    parts = [(b"\xbc", -2.0, 1), (b"\xa2", -3.0, 1)]
    assert emitted(answer([2, 3, 4], [])) == [(" ", [(b" \xe6", -1.0, 0)]), ("漢", parts)]
    assert emitted(answer([1, 3], [])) == [
        ("Hi", [(b"Hi", -1.0, 0)]),
        ("\ufffd", [(b"\xbc", -2.0, 2)]),
    ]
    assert emitted(answer([2, 3], [])) == [
        (" ", [(b" \xe6", -1.0, 0)]),
        ("\ufffd", [(b"\xbc", -2.0, 1)]),
    ]


def test_what_may_be_a_stop_string_is_held_back_with_its_tokens() -> None:
    assert emitted(answer([1, 5, 8], [" STOP"])) == [
        ("Hi", [(b"Hi", -1.0, 0)]),
        (" START", [(b" ST", -2.0, 2), (b"ART", -3.0, 5)]),
    ]


def test_tokens_of_a_stop_string_are_not_emitted_but_the_one_it_begins_in_is() -> None:
    assert emitted(answer([1, 5, 6, 1], [" STOP"])) == [("Hi", [(b"Hi", -1.0, 0)])]
    assert emitted(answer([1, 5, 6, 1], ["TOP"])) == [
        ("Hi", [(b"Hi", -1.0, 0)]),
        (" S", [(b" ST", -2.0, 2)]),
    ]


def test_a_control_token_inside_an_answer_is_emitted_by_name_though_it_has_no_text() -> None:
    events = answer([1, 7, 1], [])
    assert emitted(events)[1] == ("", [(b"<|think|>", -2.0, 2)])
    assert "".join(event.text for event in deltas_of(events)) == "HiHi"


def test_ids_are_reported_without_probabilities_and_with_the_one_that_ends_the_answer() -> None:
    outputs = TextOutputs(PIECES.__getitem__, lambda request_id: None, NAMES.__getitem__)
    request = GenerateRequest(
        prompt=TextPrompt(""), reports_tokens=True, reports_prompt_tokens=True, reports_usage=True
    )
    started = outputs.start(1, [4, 0, 3], request)
    assert started == Started(1, 3, prompt_token_ids=[4, 0, 3])

    def sampled(token: int, number: int, reason: FinishReason | None) -> Sampled:
        return Sampled(
            request_id=1,
            token=token,
            num_new_tokens=number,
            num_cached_tokens=2,
            finish_reason=reason,
        )

    def usage(number: int) -> Usage:
        return Usage(num_prompt_tokens=3, num_cached_tokens=2, num_completion_tokens=number)

    assert outputs.events([sampled(1, 1, None), sampled(END, 2, FinishReason.STOP)]) == [
        Delta(request_id=1, text="Hi", num_tokens=1, usage=usage(1), token_ids=[1]),
        Delta(request_id=1, text="", num_tokens=1, usage=usage(2), token_ids=[END]),
        Finished(request_id=1, reason=FinishReason.STOP, usage=usage(2)),
    ]


@pytest.mark.parametrize(
    ("tokens", "stop", "reported"),
    [
        ([2, 3, 4], [], [(" ", [2]), ("漢", [3, 4])]),
        ([2, 3], [], [(" ", [2]), ("\ufffd", [3])]),
        ([1, 7, 1], [], [("Hi", [1]), ("Hi", [7, 1])]),
        ([1, 5, 6, 1], [" STOP"], [("Hi", [1]), ("", [5, 6])]),
        ([1, 5, 6, 1], ["TOP"], [("Hi", [1]), (" S", [5]), ("", [6])]),
    ],
)
def test_every_sampled_id_is_reported_once_also_those_of_a_stop_string(
    tokens: list[int], stop: list[str], reported: list[tuple[str, list[int]]]
) -> None:
    deltas = deltas_of(answer(tokens, stop, reports_tokens=True, has_logprobs=False))
    assert [(delta.text, delta.token_ids) for delta in deltas] == reported
    assert [delta.num_tokens for delta in deltas] == [len(ids) for _, ids in reported]
    scored = answer(tokens, stop, reports_tokens=True)
    ids = [token for delta in deltas_of(scored) for token in delta.token_ids or []]
    assert ids == [token for _, ids in reported for token in ids]
    assert isinstance(scored[-1], Finished)
    assert scored[-1].usage.num_completion_tokens == len(ids)


def test_a_prompts_progress_is_told_by_the_clock_since_its_start() -> None:
    now = 5.0
    outputs = TextOutputs(PIECES.__getitem__, lambda request_id: None, clock=lambda: now)
    outputs.start(1, [0] * 9, GenerateRequest(prompt=TextPrompt(""), reports_progress=True))
    now = 5.25
    progress = PromptProgress(
        num_prompt_tokens=9, num_cached_tokens=2, num_prefilled_tokens=6, time_ms=250.0
    )
    assert outputs.events([Prefilled(1, (), 2, num_prefilled_tokens=6)]) == [
        Delta(request_id=1, text="", num_tokens=0, progress=progress)
    ]


def test_nothing_is_reported_where_nobody_asked() -> None:
    outputs = TextOutputs(PIECES.__getitem__, lambda request_id: None)
    outputs.start(1, [0, 0, 0], GenerateRequest(prompt=TextPrompt("")))
    assert outputs.events(
        [Sampled(request_id=1, token=1, num_new_tokens=1, num_cached_tokens=0, finish_reason=None)]
    ) == [Delta(request_id=1, text="Hi", num_tokens=1, tokens=None)]
