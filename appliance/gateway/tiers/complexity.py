"""How much a request asks of a model, as points from 0 to 100, each with its reason.

Pure: knows no model, and reads nothing but the request.

The points are ours; they were set on a half of the labelled prompts that
`python -m bench.auto_model` measures them on. A signal is worth at most its `_MOST_...`, so
that none decides alone what several should.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import msgspec

from appliance.gateway.tiers.asked import Asked, asked_of
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import GenerateRequest, Grammar

MOST = 100

_MOST_LENGTH = 25
_MOST_TOOLS = 25
_MOST_SCHEMA = 20
_MOST_DEPTH = 15
_MOST_REASONING = 25
_LARGE_SCHEMA_CHARS = 32_768  # hard by its size, and too long to look into
_MANY = 30  # code or mathematics that is certain
_SOME = 15  # that is likely
_LANGUAGE = 10

_SHORT_TOKENS = 32  # a prompt up to this length says nothing by it
_BRIEF_TOKENS = 16  # an answer that may not be longer is an easy one, as a rule

# Reasoning effort, where it is asked for by name.
_EFFORT = {
    "none": -15,
    "minimal": -15,
    "low": -10,
    "medium": 15,
    "high": 35,
    "xhigh": 45,
    "max": 45,
}

# Every repetition has an end: a text is searched on the event loop, and one that is made to be
# slow must not be.
_CODE = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"```",
        r"^[ \t]*(?:async )?def \w+\(|^[ \t]*class \w+|^[ \t]*(?:from \w[\w.]* )?import \w",
        r"^[ \t]*(?:public|private|static|func|fn|let|const|var|#include|package)\b",
        r"[;{}][ \t]*$|\breturn\b.{0,99}[;)]|=>|->[ \t]{0,3}\w|==|!=|&&|\|\|",
        r"\bTraceback\b|\b\w+(?:Error|Exception)\b|^>>> ",
        r"(?i:\b(?:SELECT\b.{1,99}\bFROM|regex|regular expression|stack trace)\b)",
        r"(?i:\b(?:python|javascript|typescript|c\+\+|rust|java|golang|sql|bash|html|css)\b)",
        r"(?i:\b(?:function|program|algorithm|script|code|debug|refactor|compile|implement)\b)",
    )
)
_MATHEMATICS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\\(?:frac|sum|int|sqrt|begin|cdot|le|ge)\b|\$[^$\n]{0,99}[\\^_=][^$\n]{0,99}\$",
        r"\d {0,3}[-+*/^=<>] {0,3}[-(]{0,3}[\dx]|\b[a-z]\([a-z]\)|[a-z]\^\d|\d%",
        r"(?i:\bhow (?:many|much|long|far|old|fast|tall)\b)",
        r"(?i:\b(?:calculate|compute|solve|equation|integral|derivative|probability|remainder|"
        r"percent(?:age)?|average|ratio|sum of|divisible|inequality|triangle|area of|total|twice|"
        r"half|times as|per (?:day|week|hour|month|year))\b)",
        r"(?i:\b(?:prove|proof|theorem|lemma|polynomial|matrix|modulo|prime|vertices|integers?)\b)",
    )
)
_NUMBER = re.compile(
    r"\d+(?:[.,]\d+)*|\b(?:two|three|four|five|six|seven|eight|nine|ten|dozen|hundred)\b",
    re.IGNORECASE,
)
_REASONING = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"\bstep[- ]by[- ]step\b|\bthink (?:carefully|hard|it through)\b",
        r"^[ \t]*\(?[A-E]\)[ .]",
        r"\b(?:deduce|logical(?:ly)?|puzzle|riddle|argument|premises?|valid or invalid)\b",
        r"\b(?:why|because|if|therefore|unless|suppose|assume|given that)\b.{0,299}\?",
        r"\b(?:analy[sz]e|compare|trade-?offs?|critique|evaluate|derive|justify|design)\b",
        r"\b(?:true or false|tells? the truth|true, false|statements?|sequence|alphabetically)\b",
        r"\b(?:relationship between|in (?:what|which) order|(?:start|end) of the|left|right)\b"
        r".{0,299}\?",
    )
)
_BRIEFLY = re.compile(
    r"\b(?:briefly|in (?:one|a single|a few) (?:words?|sentences?)|short answer|yes or no|"
    r"one[- ]word|just say|keep it short)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Signal:
    """What of a request speaks for a larger model, or with points below 0 for a smaller."""

    name: str
    points: int


@dataclass(frozen=True)
class Complexity:
    """Of one request."""

    signals: tuple[Signal, ...]  # those that have points

    @property
    def score(self) -> int:
        """The sum of the signals' points, from 0 to `MOST`."""
        return min(MOST, max(0, sum(signal.points for signal in self.signals)))

    @property
    def reason(self) -> str:
        """The largest signal first, such as `mathematics 30, length 12, hints -10`."""
        ordered = sorted(self.signals, key=lambda signal: -abs(signal.points))
        return ", ".join(f"{signal.name} {signal.points}" for signal in ordered) or "nothing in it"


def complexity_of(request: GenerateRequest) -> Complexity:
    """By its prompt, and by what it asks of the answer. A prompt of token ids has a length,
    and nothing else that can be read.
    """
    asked = asked_of(request)
    points = {
        "length": _length(asked),
        "code": _code(asked.text),
        "mathematics": _mathematics(asked.text),
        "reasoning": _reasoning(asked.text),
        "tools": _tools(asked.num_tools),
        "schema": _schema(request.grammar),
        "language": _language(asked.text),
        "depth": min(_MOST_DEPTH, 3 * max(0, asked.num_turns - 1)),
        "hints": _hints(asked, request.max_tokens),
    }
    return Complexity(tuple(Signal(name, value) for name, value in points.items() if value))


def _length(asked: Asked) -> int:
    """Five points for each doubling."""
    doublings = math.log2(max(1.0, asked.num_tokens / _SHORT_TOKENS))
    return min(_MOST_LENGTH, round(5 * doublings))


def _code(text: str) -> int:
    found = sum(pattern.search(text) is not None for pattern in _CODE)
    return _MANY if found >= 2 else _SOME if found else 0


def _mathematics(text: str) -> int:
    """Numbers alone are dates and amounts; with words that reckon they are a problem."""
    found = sum(pattern.search(text) is not None for pattern in _MATHEMATICS)
    if not found or _NUMBER.search(text) is None:
        return 0
    return _MANY if found >= 2 else _SOME


def _reasoning(text: str) -> int:
    found = sum(pattern.search(text) is not None for pattern in _REASONING)
    return min(_MOST_REASONING, _SOME + 5 * (found - 1)) if found else 0


def _tools(num_tools: int) -> int:
    return min(_MOST_TOOLS, 10 + 3 * num_tools) if num_tools else 0


def _schema(grammar: Grammar | None) -> int:
    """A list of choices is easier than free text; a schema is as hard as it is deep."""
    if grammar is None:
        return 0
    if grammar.kind is GrammarKind.CHOICE:
        return -5
    if grammar.kind is not GrammarKind.JSON_SCHEMA:
        return 10
    if len(grammar.source) > _LARGE_SCHEMA_CHARS:
        return _MOST_SCHEMA
    try:
        depth = _depth(msgspec.json.decode(grammar.source))
    except (msgspec.DecodeError, RecursionError):
        depth = 0  # it is refused where it is compiled
    return min(_MOST_SCHEMA, 5 + 3 * depth)


def _depth(schema: object) -> int:
    """Of objects and lists within each other, as the schema describes them."""
    if isinstance(schema, list):
        return max(map(_depth, schema), default=0)
    if not isinstance(schema, dict):
        return 0
    own = 1 if "properties" in schema or "items" in schema else 0
    return own + max(map(_depth, schema.values()), default=0)


def _language(text: str) -> int:
    """Points where a third of its letters are none of the Latin script."""
    letters = [letter for letter in text if letter.isalpha()]
    num_others = sum(ord(letter) > 0x24F for letter in letters)
    return _LANGUAGE if letters and 3 * num_others >= len(letters) else 0


def _hints(asked: Asked, max_tokens: int | None) -> int:
    """What the request says itself of how much it wants."""
    points = _EFFORT.get(asked.effort or "", 0)
    if _BRIEFLY.search(asked.text):
        points -= 10
    if max_tokens is not None and max_tokens <= _BRIEF_TOKENS:
        points -= 10
    return points
