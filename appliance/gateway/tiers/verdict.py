"""Whether an answer is good enough, or a larger model should be asked too.

Pure: knows no model. It sees what can be told without judging what the answer says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from appliance.protocol.events import Delta, Event, Finished, FinishReason, Started
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import ChatPrompt, GenerateRequest, Grammar

# An answer that may have no more tokens is meant to be cut, such as that of a classifier.
MEANT_SHORT_TOKENS = 64


@dataclass
class _Call:
    name: str
    arguments: str = ""


@dataclass
class _Whole:
    """An answer, put together of its events."""

    text: str = ""
    calls: list[_Call] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    unenforced: Sequence[str] = ()
    finished: Finished | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> _Whole:
        whole = cls()
        for event in events:
            if isinstance(event, Started):
                whole.unenforced = event.unenforced
            elif isinstance(event, Finished):
                whole.finished = event
            elif isinstance(event, Delta):
                whole._add(event)
        return whole

    def _add(self, delta: Delta) -> None:
        self.text += delta.text
        tokens = (token.chosen.logprob for token in delta.tokens or ())
        self.logprobs += [logprob for logprob in tokens if logprob is not None]
        if (part := delta.tool_call) is not None:
            if part.name:
                self.calls.append(_Call(part.name))
            self.calls[part.index].arguments += part.arguments


def complaint_about(
    request: GenerateRequest, events: Sequence[Event], min_logprob: float | None
) -> str | None:
    """What is wrong with a complete answer, as it reads after "its answer"; None: nothing.

    `min_logprob`: natural, of the mean token; it is looked at where the request asked for
    log-probabilities of its answer alone.
    """
    whole = _Whole.of(events)
    assert whole.finished is not None, "a Client ends every answer with Finished, or raises"
    return (
        _cut(request, whole.finished)
        or _invalid_text(request.grammar, whole)
        or _invalid_calls(request, whole.calls)
        or (None if request.scores_prompt else _unlikely(whole.logprobs, min_logprob))
    )


def _cut(request: GenerateRequest, finished: Finished) -> str | None:
    if finished.reason is not FinishReason.LENGTH:
        return None
    if request.max_tokens is not None and request.max_tokens < MEANT_SHORT_TOKENS:
        return None
    return f"was cut after {finished.usage.num_completion_tokens} tokens"


def _invalid_text(grammar: Grammar | None, whole: _Whole) -> str | None:
    """The grammar sees to nearly all of a form: what is left is an answer that broke off, and
    what the server said that it cannot enforce.
    """
    if grammar is None or grammar.kind is not GrammarKind.JSON_SCHEMA or whole.calls:
        return None
    value = _json(whole.text)
    if value is None:
        return "is no JSON"
    schema = _json(grammar.source)
    if whole.unenforced and isinstance(schema, dict):
        return _lacks(value, schema)
    return None


def _lacks(value: object, schema: dict[str, object]) -> str | None:
    required = schema.get("required")
    if not isinstance(required, list):
        return None
    missing = [name for name in required if not isinstance(value, dict) or name not in value]
    return f"lacks {missing[0]!r}, which its schema requires" if missing else None


def _invalid_calls(request: GenerateRequest, calls: Sequence[_Call]) -> str | None:
    if not calls:
        return "calls no tool" if request.tool_calls.is_required else None
    prompt = request.prompt
    tools = (prompt.tools if isinstance(prompt, ChatPrompt) else None) or []
    known = {tool.get("function", tool).get("name") for tool in tools}
    for call in calls:
        if known and call.name not in known:
            return "calls a tool that there is not"
        if not isinstance(_json(call.arguments or "{}"), dict):
            return "calls a tool with arguments that are no JSON object"
    return None


def _unlikely(logprobs: Sequence[float], min_logprob: float | None) -> str | None:
    if min_logprob is None or not logprobs:
        return None
    mean = sum(logprobs) / len(logprobs)
    if mean >= min_logprob:
        return None
    return (
        f"has a mean log-probability of {mean:.2f} (a probability of {math.exp(mean):.2g}), below "
        f"{min_logprob:.2f} ({math.exp(min_logprob):.2g})"
    )


def _json(text: str) -> object:
    """None where it is none (and for `null`, which is no object either)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
