"""What a client got for one request: an answer, a clear error, or what nobody should get.

Knows the formats' ends and errors, as their clients look for them; sends nothing.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appliance.api.errors import INTERNAL_FAILURE

_NUM_SHOWN = 300  # characters of what was not understood


class Form(enum.Enum):
    """What an answer looks like."""

    CHOICES = "choices"  # OpenAI's chat completions and completions
    RESPONSE = "response"  # OpenAI's responses
    MESSAGE = "message"  # Anthropic's
    LINES = "lines"  # Ollama's chat


class Ending(enum.Enum):
    """How a request ended for its client."""

    ANSWERED = "answered"
    REFUSED = "refused"  # an error's status, and its words
    BROKEN = "broken"  # a stream that ended in an error event
    LEFT = "left"  # the client went away itself
    UNREACHED = "unreached"  # nobody listened, as the server was being started again
    # findings
    CUT = "cut"  # it ended, and nobody said why
    TWICE = "twice"  # more than one end, or something behind it
    UNCLEAR = "unclear"  # an error that says nothing, or is the server's own fault
    WRONG = "wrong"  # an answer that is none
    LATE = "late"  # no end within the time that any of them takes

    @property
    def is_finding(self) -> bool:
        return self in _FINDINGS


_FINDINGS = frozenset({Ending.CUT, Ending.TWICE, Ending.UNCLEAR, Ending.WRONG, Ending.LATE})


@dataclass(frozen=True)
class Verdict:
    """`code` is that of an error, where its format has one."""

    ending: Ending
    code: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Received:
    """Everything that came back for one request."""

    status: int
    body: bytes
    is_whole: bool  # the connection did not break before the body's end


def judged(form: Form, received: Received, *, is_stream: bool, num_choices: int = 1) -> Verdict:
    """`num_choices`: as many answers were asked for."""
    if received.status != 200:
        return _refusal(form, received)
    if is_stream:
        return _stream(form, received, num_choices)
    if not received.is_whole:
        return Verdict(Ending.CUT, detail=_shown(received.body))
    try:
        record = json.loads(received.body)
    except ValueError:
        return Verdict(Ending.WRONG, detail=_shown(received.body))
    if _is_answer(form, record, num_choices):
        return Verdict(Ending.ANSWERED)
    return Verdict(Ending.WRONG, detail=_shown(received.body))


def _refusal(form: Form, received: Received) -> Verdict:
    if not received.is_whole:
        return Verdict(Ending.CUT, detail=_shown(received.body))
    try:
        error = _error_in(form, json.loads(received.body))
    except ValueError:
        error = None
    if error is None:
        return Verdict(Ending.UNCLEAR, detail=f"{received.status} {_shown(received.body)}")
    return _told(Ending.REFUSED, error)


def _told(ending: Ending, error: _Error) -> Verdict:
    is_ours = error.message == INTERNAL_FAILURE.message or error.code == INTERNAL_FAILURE.code
    return Verdict(Ending.UNCLEAR if is_ours else ending, error.code, error.message)


# --- streams --------------------------------------------------------------------------


def _stream(form: Form, received: Received, num_choices: int) -> Verdict:
    """Exactly one end, and nothing behind it."""
    ends: list[Verdict] = []
    finished: list[int] = []
    try:
        frames = list(_lines(received.body) if form is Form.LINES else _events(received.body))
    except ValueError as error:
        broken = Ending.WRONG if received.is_whole else Ending.CUT
        return Verdict(broken, detail=f"{error}: {_shown(received.body[-_NUM_SHOWN:])}")
    for record in frames:
        if ends:
            return Verdict(Ending.TWICE, detail=f"behind the end: {_shown(record)}")
        error = _error_in(form, record)
        if error is not None:
            ends.append(_told(Ending.BROKEN, error))
        elif _is_end(form, record):
            ends.append(Verdict(Ending.ANSWERED))
        elif form is Form.CHOICES:
            choices = record["choices"] if isinstance(record, dict) else []
            finished += [each["index"] for each in choices if each.get("finish_reason")]
    if not ends or not received.is_whole:
        return Verdict(Ending.CUT, detail=_shown(received.body[-_NUM_SHOWN:]))
    is_answered = form is Form.CHOICES and ends[0].ending is Ending.ANSWERED
    if is_answered and sorted(finished) != list(range(num_choices)):
        return Verdict(Ending.WRONG, detail=f"choices that finished: {finished}")
    return ends[0]


_DONE = "[DONE]"


def _events(body: bytes) -> Iterator[Any]:
    """Data of server-sent events. Raises `ValueError` for one that is not whole."""
    *blocks, rest = body.split(b"\n\n")
    if rest:
        raise ValueError("an event without an end")
    for block in blocks:
        data = [line[6:] for line in block.splitlines() if line.startswith(b"data: ")]
        if not data:
            continue  # comments, and how soon to come back
        text = b"\n".join(data)
        yield _DONE if text == _DONE.encode() else json.loads(text)


def _lines(body: bytes) -> Iterator[Any]:
    """Raises `ValueError` for a line that is not whole."""
    *lines, rest = body.split(b"\n")
    if rest:
        raise ValueError("a line without an end")
    yield from map(json.loads, lines)


def _is_end(form: Form, record: Any) -> bool:
    if form is Form.CHOICES:
        return bool(record == _DONE)
    if form is Form.LINES:
        return record.get("done") is True
    ends = {
        Form.MESSAGE: ("message_stop",),
        Form.RESPONSE: ("response.completed", "response.incomplete"),
    }
    return record["type"] in ends[form]


# --- records --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Error:
    message: str
    code: str = ""


def _error_in(form: Form, record: Any) -> _Error | None:
    """None where it is no error, or one without words."""
    if not isinstance(record, dict):
        return None
    if form is Form.RESPONSE and record.get("type") == "response.failed":
        record = record["response"]
    error = record.get("error")
    if form is Form.LINES:
        return _Error(error) if isinstance(error, str) and error else None
    if not isinstance(error, dict) or not error.get("message"):
        return None
    if form is Form.MESSAGE:
        is_whole = record.get("type") == "error" and error.get("type")
        return _Error(error["message"], error["type"]) if is_whole else None
    return _Error(error["message"], str(error.get("code")))


def _is_answer(form: Form, record: Any, num_choices: int) -> bool:
    if not isinstance(record, dict):
        return False
    if form is Form.CHOICES:
        choices = record.get("choices", [])
        return len(choices) == num_choices and all(each["finish_reason"] for each in choices)
    if form is Form.RESPONSE:
        return record.get("status") in ("completed", "incomplete")
    if form is Form.MESSAGE:
        return record.get("type") == "message" and bool(record.get("stop_reason"))
    return record.get("done") is True


def _shown(what: object) -> str:
    text = what.decode(errors="replace") if isinstance(what, bytes) else json.dumps(what)
    return text[:_NUM_SHOWN]
