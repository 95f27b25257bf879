"""Earlier calls in a conversation, as one chat template or another expects them.

Knows no way of writing answers.

OpenAI's messages carry a call's arguments as JSON text, beside content that is null.
Templates were written for this, for arguments as an object (as Hugging Face says), or
for content that is a string; which of them is found by trying.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.errors import TemplateFailed
from appliance.text.chat_template import QUICK_CPU_S, ChatTemplate

_NAME, _KEY, _VALUE = "probe_function", "probe_key", "probe_value"
_QUOTED_TWICE = '\\"'
_PYTHON_QUOTES = f"'{_KEY}'"


class CallHistory:
    """Turns messages with calls into what `template` renders properly."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def fitted(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Raises `ValueError` where a call's arguments, needed
        as an object, are no JSON object.
        """
        return [
            self._fitted(message) if message.get("tool_calls") else dict(message)
            for message in messages
        ]

    def _fitted(self, message: Mapping[str, Any]) -> dict[str, Any]:
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
        arguments: Any = {_KEY: _VALUE}
        function = {"name": _NAME, "arguments": arguments if as_object else json.dumps(arguments)}
        call = {"id": "probe1234", "type": "function", "function": function}
        answer = {"role": "tool", "content": "probe", "tool_call_id": "probe1234", "name": _NAME}
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "probe"},
            {"role": "assistant", "content": content, "tool_calls": [call]},
            answer,
        ]
        try:
            rendered = self._template.render(messages, cpu_s=QUICK_CPU_S)
        except TemplateFailed:
            return False
        is_there = _KEY in rendered and _VALUE in rendered  # the name may be left to the call's id
        return is_there and _PYTHON_QUOTES not in rendered and _QUOTED_TWICE not in rendered


def _object_of(arguments: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a call's arguments are not valid JSON: {arguments[:80]}") from error
    if not isinstance(value, dict):
        raise ValueError(f"a call's arguments are not a JSON object: {arguments[:80]}")  # noqa: TRY004 - what was sent
    return value
