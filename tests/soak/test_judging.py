"""Whether a client got one answer or one clear error, of what came over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.api.errors import INTERNAL_FAILURE
from tests.soak.judging import Ending, Form, Received, Verdict, judged
from tests.soak.ledger import Entry, Phase

ERROR = {"error": {"message": "The worker was lost.", "type": "server_error", "code": "lost"}}
OURS = {"error": {"message": INTERNAL_FAILURE.message, "code": INTERNAL_FAILURE.code}}
ANTHROPIC = {"type": "error", "error": {"type": "overloaded_error", "message": "Later."}}
TEXT = {"choices": [{"index": 0, "text": "a", "finish_reason": None}]}
LAST = {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
DONE = "[DONE]"


def events(*records: Any) -> bytes:
    texts = (record if isinstance(record, str) else json.dumps(record) for record in records)
    return b": a comment\n" + b"".join(b"data: %b\n\n" % text.encode() for text in texts)


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def ending(form: Form, body: bytes, *, is_whole: bool = True, num_choices: int = 1) -> Ending:
    received = Received(status=200, body=body, is_whole=is_whole)
    return judged(form, received, is_stream=True, num_choices=num_choices).ending


@pytest.mark.parametrize(
    ("form", "body", "expected"),
    [
        (Form.CHOICES, events(TEXT, LAST, DONE), Ending.ANSWERED),
        (Form.CHOICES, events(TEXT, ERROR), Ending.BROKEN),
        (Form.CHOICES, events(TEXT, OURS), Ending.UNCLEAR),
        (Form.CHOICES, events(TEXT, LAST), Ending.CUT),
        (Form.CHOICES, events(TEXT, DONE), Ending.WRONG),
        (Form.CHOICES, events(TEXT, LAST, LAST, DONE), Ending.WRONG),
        (Form.CHOICES, events(TEXT, LAST, DONE, DONE), Ending.TWICE),
        (Form.CHOICES, events(TEXT, ERROR, DONE), Ending.TWICE),
        (Form.CHOICES, events(TEXT, LAST, DONE)[:-1], Ending.WRONG),
        (Form.RESPONSE, events({"type": "response.created"}), Ending.CUT),
        (Form.RESPONSE, events({"type": "response.completed"}), Ending.ANSWERED),
        (Form.RESPONSE, events({"type": "response.failed", "response": ERROR}), Ending.BROKEN),
        (Form.MESSAGE, events({"type": "message_stop"}), Ending.ANSWERED),
        (Form.MESSAGE, events({"type": "ping"}, ANTHROPIC), Ending.BROKEN),
        (Form.MESSAGE, events(ANTHROPIC, {"type": "message_stop"}), Ending.TWICE),
        (Form.LINES, lines({"done": False}, {"done": True}), Ending.ANSWERED),
        (Form.LINES, lines({"done": False}, {"error": "Lost."}), Ending.BROKEN),
        (Form.LINES, lines({"done": False}), Ending.CUT),
        (Form.LINES, lines({"done": True}, {"done": True}), Ending.TWICE),
    ],
)
def test_a_stream_has_one_end(form: Form, body: bytes, expected: Ending) -> None:
    assert ending(form, body) is expected


def test_a_stream_that_broke_is_cut_wherever_it_did() -> None:
    whole = events(TEXT, LAST, DONE)
    for at in range(len(whole) + 1):
        assert ending(Form.CHOICES, whole[:at], is_whole=False) is Ending.CUT, at


def test_each_choice_of_a_stream_finishes() -> None:
    other = {"choices": [{"index": 1, "text": "", "finish_reason": "length"}]}
    assert ending(Form.CHOICES, events(LAST, other, DONE), num_choices=2) is Ending.ANSWERED
    assert ending(Form.CHOICES, events(LAST, DONE), num_choices=2) is Ending.WRONG


@pytest.mark.parametrize(
    ("form", "status", "body", "expected"),
    [
        (Form.CHOICES, 200, LAST, Ending.ANSWERED),
        (Form.CHOICES, 200, {"choices": []}, Ending.WRONG),
        (Form.CHOICES, 503, ERROR, Ending.REFUSED),
        (Form.CHOICES, 503, {}, Ending.UNCLEAR),
        (Form.CHOICES, 500, OURS, Ending.UNCLEAR),
        (Form.RESPONSE, 200, {"status": "completed"}, Ending.ANSWERED),
        (Form.RESPONSE, 200, {"status": "failed"}, Ending.WRONG),
        (Form.MESSAGE, 200, {"type": "message", "stop_reason": "end_turn"}, Ending.ANSWERED),
        (Form.MESSAGE, 529, ANTHROPIC, Ending.REFUSED),
        (Form.MESSAGE, 529, ERROR, Ending.UNCLEAR),
        (Form.LINES, 200, {"done": True}, Ending.ANSWERED),
        (Form.LINES, 500, {"error": INTERNAL_FAILURE.message}, Ending.UNCLEAR),
    ],
)
def test_a_response_is_an_answer_or_a_clear_error(
    form: Form, status: int, body: dict[str, Any], expected: Ending
) -> None:
    content = json.dumps(body).encode()
    received = Received(status=status, body=content, is_whole=True)
    assert judged(form, received, is_stream=False).ending is expected
    cut = Received(status=status, body=content[:-1], is_whole=False)
    assert judged(form, cut, is_stream=False).ending is Ending.CUT


CALM, FAULT = Phase(1), Phase(2, "worker killed")


@pytest.mark.parametrize(
    ("began", "ended", "status", "verdict", "finding"),
    [
        (CALM, CALM, 200, Verdict(Ending.ANSWERED), None),
        (CALM, CALM, 503, Verdict(Ending.REFUSED, "worker_lost"), "not answered in a calm phase"),
        (CALM, CALM, 200, Verdict(Ending.BROKEN, "worker_lost"), "not answered in a calm phase"),
        (CALM, FAULT, 200, Verdict(Ending.BROKEN, "worker_lost"), None),
        (FAULT, FAULT, 503, Verdict(Ending.REFUSED, "worker_lost"), None),
        (CALM, CALM, 429, Verdict(Ending.REFUSED, "rate_limit_exceeded"), None),
        (CALM, CALM, 0, Verdict(Ending.LEFT), None),
        (FAULT, FAULT, 401, Verdict(Ending.REFUSED, "invalid_api_key"), "told that it was wrong"),
        (FAULT, FAULT, 0, Verdict(Ending.CUT), "cut"),
    ],
)
def test_what_should_not_have_been(
    began: Phase, ended: Phase, status: int, verdict: Verdict, finding: str | None
) -> None:
    entry = Entry(
        what="one",
        began=began,
        ended=ended,
        began_s=0.0,
        ended_s=1.0,
        status=status,
        verdict=verdict,
    )
    assert entry.finding == finding
