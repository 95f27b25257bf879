"""What clients ask, at random from a seed: every format, whole and streamed, some of it
wrong on purpose.

Knows paths and bodies; sends nothing.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.soak.judging import Form

MODEL = "novels-6m"
_OPENING = (
    "The old house by the sea had stood empty for many years, and nobody knew why. ",
    "It was a dark night, and the wind blew over the moor while we sat by the fire. ",
    "My dear sister, I have long meant to write to you about what happened in the spring. ",
)
_NUM_LONG_TOKENS = 1300  # more than a machine that is short of memory takes


class Manner(enum.Enum):
    """How a client takes its answer."""

    WHOLE = "takes it"
    SLOW = "reads slowly"
    LEAVES = "leaves"
    STARES = "stops reading"  # and leaves long after


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request, and how its answer is taken."""

    form: Form
    path: str
    body: dict[str, Any]
    is_stream: bool = False
    num_choices: int = 1
    manner: Manner = Manner.WHOLE
    expected_status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    leaves_after_s: float = 0.0

    @property
    def what(self) -> str:
        how = "streamed" if self.is_stream else "whole"
        return f"{self.path} {how}, {self.manner.value}"


def ask_of(rng: random.Random) -> Ask:
    """The next one of a client."""
    return rng.choices(list(_KINDS), weights=list(_KINDS.values()))[0](rng)


def plain_ask() -> Ask:
    """Short, and answered wherever anything is."""
    return Ask(
        form=Form.CHOICES,
        path="/v1/completions",
        body={"model": MODEL, "prompt": "Once", "max_tokens": 2, "cache_prompt": False},
    )


def long_ask(rng: random.Random) -> Ask:
    """Refused where memory is short."""
    return Ask(
        form=Form.CHOICES,
        path="/v1/completions",
        body={"model": MODEL, "prompt": _token_ids(rng, _NUM_LONG_TOKENS), "max_tokens": 2},
    )


# --- the mix --------------------------------------------------------------------------


def _chat(rng: random.Random) -> Ask:
    body = {"messages": [{"role": "user", "content": _text(rng)}], "max_tokens": _num_tokens(rng)}
    if rng.random() < 0.2:
        body["response_format"] = _FORMAT
        body["max_tokens"] = 200
    num_choices = rng.choice((1, 1, 1, 2))
    return _asked(
        rng, Form.CHOICES, "/v1/chat/completions", {**body, "n": num_choices}, num_choices
    )


def _completion(rng: random.Random) -> Ask:
    body: dict[str, Any] = {"prompt": _text(rng), "max_tokens": _num_tokens(rng)}
    if rng.random() < 0.3:
        body["cache"] = "keep"
    if rng.random() < 0.2:
        body["temperature"] = 0
    return _asked(rng, Form.CHOICES, "/v1/completions", body)


def _response(rng: random.Random) -> Ask:
    body = {
        "input": _text(rng),
        "max_output_tokens": _num_tokens(rng),
        "store": rng.random() < 0.8,
    }
    return _asked(rng, Form.RESPONSE, "/v1/responses", body)


def _message(rng: random.Random) -> Ask:
    body = {
        "messages": [{"role": "user", "content": _text(rng)}],
        "system": rng.choice(_OPENING),
        "max_tokens": _num_tokens(rng),
    }
    return _asked(rng, Form.MESSAGE, "/v1/messages", body)


def _ollama(rng: random.Random) -> Ask:
    body = {
        "messages": [{"role": "user", "content": _text(rng)}],
        "options": {"num_predict": _num_tokens(rng)},
    }
    return _asked(rng, Form.LINES, "/api/chat", body)


def _heavy(rng: random.Random) -> Ask:
    """More than a connection holds, for whoever reads slowly or no more."""
    body = {"prompt": _text(rng), "max_tokens": 300, "logprobs": 5, "ignore_eos": True}
    return Ask(
        form=Form.CHOICES,
        path="/v1/completions",
        body={"model": MODEL, **body, "stream": True},
        is_stream=True,
        manner=rng.choice((Manner.SLOW, Manner.SLOW, Manner.STARES)),
        leaves_after_s=rng.uniform(1, 12),
    )


def _wrong(rng: random.Random) -> Ask:
    """Which no phase may answer."""
    form, path, body = rng.choice(_WRONG)
    return Ask(form=form, path=path, body={"model": MODEL, **body}, expected_status=400)


def _stranger(rng: random.Random) -> Ask:
    headers = {"authorization": f"Bearer ak-{rng.getrandbits(32):08x}-nobody"}
    return Ask(
        form=Form.CHOICES,
        path="/v1/completions",
        body={"model": MODEL, "prompt": "Once"},
        expected_status=401,
        headers=headers,
    )


_KINDS: dict[Callable[[random.Random], Ask], float] = {
    _chat: 4,
    _completion: 4,
    _response: 3,
    _message: 3,
    _ollama: 3,
    _heavy: 1,
    long_ask: 0.5,
    _wrong: 1,
    _stranger: 0.5,
}

_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "schema": {
            "type": "object",
            "properties": {"at": {"enum": ["sea", "moor"]}, "year": {"type": "boolean"}},
            "required": ["at", "year"],
            "additionalProperties": False,
        },
    },
}
_WRONG: tuple[tuple[Form, str, dict[str, Any]], ...] = (
    (Form.CHOICES, "/v1/completions", {"prompt": "x", "temperature": "hot"}),
    (Form.CHOICES, "/v1/chat/completions", {"messages": "x"}),
    (Form.CHOICES, "/v1/completions", {"prompt": [1] * 4000}),
    (Form.CHOICES, "/v1/embeddings", {"input": "x"}),
    (Form.RESPONSE, "/v1/responses", {"input": 3}),
    (Form.MESSAGE, "/v1/messages", {"messages": [], "max_tokens": 3}),
    (Form.LINES, "/api/chat", {"messages": 3}),
)


def _asked(
    rng: random.Random, form: Form, path: str, body: Mapping[str, Any], num_choices: int = 1
) -> Ask:
    is_stream = rng.random() < 0.6
    return Ask(
        form=form,
        path=path,
        body={"model": MODEL, **body, "stream": is_stream},
        is_stream=is_stream,
        num_choices=num_choices,
        manner=Manner.LEAVES if rng.random() < 0.15 else Manner.WHOLE,
        leaves_after_s=rng.uniform(0, 0.5),
    )


def _text(rng: random.Random) -> str:
    """Begins like many others, and ends like none."""
    opening = rng.choice(_OPENING) * rng.choice((1, 4, 12))
    return f"{opening}{rng.choice(('He', 'She', 'They'))} said: {rng.getrandbits(24)}"


def _num_tokens(rng: random.Random) -> int:
    return rng.choice((4, 16, 16, 48, 120))


def _token_ids(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(1, 4000) for _ in range(count)]
