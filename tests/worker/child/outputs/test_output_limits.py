"""An answer that its lines end, and how long it took, as events."""

from __future__ import annotations

from appliance.engine.outputs import Sampled
from appliance.protocol.events import Delta, Finished, FinishReason, Times, Usage
from appliance.protocol.requests import GenerateRequest, TextPrompt
from appliance.worker.child.outputs.text_outputs import TextOutputs

PIECES = {1: b"x\n", 2: b"y"}


def test_a_limit_of_lines_ends_it_like_a_length_and_the_times_are_reported() -> None:
    now, ended = 5.0, list[int]()
    outputs = TextOutputs(PIECES.__getitem__, ended.append, clock=lambda: now)
    outputs.start(
        1, [0, 0, 0], GenerateRequest(prompt=TextPrompt(""), min_indent=2, includes_times=True)
    )
    now = 5.25
    assert outputs.events(
        [Sampled(request_id=1, token=1, num_new_tokens=1, num_cached_tokens=0, finish_reason=None)]
    ) == [Delta(request_id=1, text="x\n", num_tokens=1)]
    now = 5.75
    assert outputs.events(
        [Sampled(request_id=1, token=2, num_new_tokens=2, num_cached_tokens=0, finish_reason=None)]
    ) == [
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(
                num_prompt_tokens=3,
                num_cached_tokens=0,
                num_completion_tokens=2,
                times=Times(250.0, 500.0),
            ),
        )
    ]
    assert ended == [1]


def test_an_answer_is_late_by_the_clock_since_its_first_text() -> None:
    now = 5.0
    outputs = TextOutputs(PIECES.__getitem__, lambda _request_id: None, clock=lambda: now)
    outputs.start(1, [0, 0, 0], GenerateRequest(prompt=TextPrompt(""), max_text_ms=100))
    now = 9.0
    assert outputs.events(
        [Sampled(request_id=1, token=1, num_new_tokens=1, num_cached_tokens=0, finish_reason=None)]
    ) == [Delta(request_id=1, text="x\n", num_tokens=1)]
    now = 9.2
    assert outputs.events(
        [Sampled(request_id=1, token=1, num_new_tokens=2, num_cached_tokens=0, finish_reason=None)]
    ) == [
        Delta(request_id=1, text="x\n", num_tokens=1),
        Finished(
            request_id=1,
            reason=FinishReason.LENGTH,
            usage=Usage(num_prompt_tokens=3, num_cached_tokens=0, num_completion_tokens=2),
        ),
    ]
