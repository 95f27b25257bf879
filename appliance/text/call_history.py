"""Earlier turns of a conversation, as one chat template or another expects them.

Knows no way of writing answers.

OpenAI's messages carry a call's arguments as JSON text, beside content that is null, and
any number of calls in one message. Templates were written for this, for arguments as an
object (as Hugging Face says), for content that is a string, or for one call at a time;
which of them is found by trying. So is whether there may be a system message.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from appliance.errors import TemplateFailed
from appliance.text.chat_template import QUICK_CPU_S, ChatTemplate

Message = Mapping[str, Any]

_NAME, _KEY, _VALUE = "probe_function", "probe_key", "probe_value"
_QUOTED_TWICE = '\\"'
_PYTHON_QUOTES = f"'{_KEY}'"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "probe",
        "parameters": {
            "type": "object",
            "properties": {_KEY: {"type": "string", "description": "probe"}},
            "required": [_KEY],
        },
    },
}
_USER: Message = {"role": "user", "content": "probe"}


class CallHistory:
    """Turns messages with calls into what `template` renders properly."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def fitted(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Raises `ValueError` where a call's arguments, needed
        as an object, are no JSON object.
        """
        if any(len(message.get("tool_calls") or ()) > 1 for message in messages):
            messages = messages if self.takes_several_calls else [*_one_by_one(messages)]
        if any(message["role"] == "system" for message in messages):
            messages = self._with_fitted_system(messages)
        return [
            self._fitted(message) if message.get("tool_calls") else dict(message)
            for message in messages
        ]

    @functools.cached_property
    def takes_system(self) -> bool:
        """Whether a conversation may begin with a system message."""
        return self._rendered([{"role": "system", "content": _VALUE}, _USER]) is not None

    @functools.cached_property
    def takes_several_systems(self) -> bool:
        """Whether it may begin with several, and all are shown."""
        system = [{"role": "system", "content": text} for text in (_KEY, _VALUE)]
        rendered = self._rendered([*system, _USER])
        return rendered is not None and _KEY in rendered and _VALUE in rendered

    @functools.cached_property
    def takes_later_systems(self) -> bool:
        """Whether there may be one behind other messages, and it is shown."""
        later = [_USER, {"role": "system", "content": _VALUE}]
        rendered = self._rendered([{"role": "system", "content": _KEY}, *later])
        return rendered is not None and _VALUE in rendered

    @functools.cached_property
    def takes_several_calls(self) -> bool:
        """Whether one message may have more than one call; also where it may have none."""
        one, two = (self._rendered(_called(*self._form, num_calls)) for num_calls in (1, 2))
        return one is None or two is not None

    @functools.cached_property
    def shows_tools(self) -> bool:
        """Whether the model is shown the functions that there are."""
        rendered = self._rendered([_USER], [_TOOL])
        return rendered is not None and _NAME in rendered

    @functools.cached_property
    def shows_calls(self) -> bool:
        """Whether the model is shown earlier calls."""
        return self._shows_call(*self._form)

    def _with_fitted_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        if not self.takes_system:
            return told_by_user(messages)
        first = [*itertools.takewhile(lambda message: message["role"] == "system", messages)]
        later = messages[len(first) :]
        if any(message["role"] == "system" for message in later) and not self.takes_later_systems:
            later = told_by_user(later)
        if len(first) > 1 and not self.takes_several_systems:
            content = "\n\n".join(message["content"] for message in first)
            first = [{"role": "system", "content": content}]
        return [*first, *later]

    def _fitted(self, message: Message) -> dict[str, Any]:
        as_object, empty_content = self._form
        fitted: dict[str, Any] = copy.deepcopy(dict(message))
        if fitted.get("content") is None:
            fitted["content"] = empty_content
        if as_object:
            for call in fitted["tool_calls"]:
                call["function"]["arguments"] = _object_of(call["function"]["arguments"])
        return fitted

    @functools.cached_property
    def _form(self) -> tuple[bool, str | None]:
        """Whether arguments are to be an object,
        and what content is where there is none.
        """
        forms: list[tuple[bool, str | None]] = [
            (True, ""),
            (True, None),
            (False, ""),
            (False, None),
        ]
        return next((form for form in forms if self._shows_call(*form)), forms[0])

    def _shows_call(self, as_object: bool, content: str | None) -> bool:
        """Whether a call rendered so is there, with its arguments as JSON."""
        rendered = self._rendered(_called(as_object, content, 1))
        if rendered is None:
            return False
        is_there = _KEY in rendered and _VALUE in rendered  # the name may be left to the call's id
        return is_there and _PYTHON_QUOTES not in rendered and _QUOTED_TWICE not in rendered

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None
    ) -> str | None:
        try:
            return self._template.render(messages, tools=tools, cpu_s=QUICK_CPU_S)
        except TemplateFailed:
            return None


def told_by_user(messages: Iterable[Message]) -> list[Message]:
    """What system messages say, as part of the user's messages beside them: of the one
    before, where there is one, so that a conversation that goes on begins as it did.
    """
    result: list[Message] = []
    is_open = False  # the last one holds what a system message says
    for message in messages:
        is_system = message["role"] == "system"
        is_user = is_system or message["role"] == "user"
        if is_user and result and result[-1]["role"] == "user" and (is_system or is_open):
            joined = "\n\n".join((result[-1]["content"], message["content"]))
            result[-1] = {**result[-1], "content": joined}
        else:
            result.append({"role": "user", "content": message["content"]} if is_system else message)
        is_open = is_system or (is_open and is_user)
    return result


def _called(as_object: bool, content: str | None, num_calls: int) -> list[Message]:
    """A conversation with so many calls at once, and their results."""
    arguments: Any = {_KEY: _VALUE}
    function = {"name": _NAME, "arguments": arguments if as_object else json.dumps(arguments)}
    ids = [f"probe123{number}" for number in range(num_calls)]
    calls = [{"id": each, "type": "function", "function": function} for each in ids]
    results = [
        {"role": "tool", "content": "probe", "tool_call_id": each, "name": _NAME} for each in ids
    ]
    return [_USER, {"role": "assistant", "content": content, "tool_calls": calls}, *results]


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    """Each call in a message of its own, with its result behind it."""
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        calls = message.get("tool_calls") or ()
        if len(calls) < 2:
            yield message
            continue
        results = []
        while at < len(messages) and messages[at]["role"] == "tool":
            results.append(messages[at])
            at += 1
        for number, call in enumerate(calls):
            content = message.get("content") if number == 0 else None
            yield {**message, "content": content, "tool_calls": [call]}
            yield from (one for one in results if one.get("tool_call_id") == call["id"])
        ids = {call["id"] for call in calls}
        yield from (one for one in results if one.get("tool_call_id") not in ids)


def _object_of(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a call's arguments are not valid JSON: {arguments[:80]}") from error
    if not isinstance(value, dict):
        raise ValueError(f"a call's arguments are not a JSON object: {arguments[:80]}")  # noqa: TRY004 - what was sent
    return value
