"""Calls written as a name, a mark, and the arguments as JSON. Knows no marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.text.answer_parts import Parts
from appliance.text.calls.json_reading import pass_value
from appliance.text.calls.syntax import MAX_NAME_CHARS, Tool, Tools, checked_name
from appliance.text.characters import Characters, Reading
from appliance.text.lark import Lark, json_object

_COUNTED = re.compile(r"(.*?):\d+")


@dataclass(frozen=True)
class NamedJson:
    """`before_name NAME after_name {...}`, with or without what is `before_name`."""

    after_name: str
    before_name: str = ""
    is_counted: bool = False  # behind the name stands a colon and which of the calls it is
    # may end the name too; what is between it and `after_name`, such as a call's id, is
    # skipped
    other_mark: str = ""

    @property
    def marks(self) -> Sequence[str]:
        return [mark for mark in (self.before_name, self.after_name, self.other_mark) if mark]

    def read(self, characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:  # noqa: ARG002 - the Protocol's
        yield from characters.skip_blanks()
        if self.before_name:
            yield from characters.skip(self.before_name)
        ends = [end for end in (self.after_name, self.other_mark) if end]
        written, found = yield from characters.until(ends, MAX_NAME_CHARS)
        if found == self.other_mark:
            yield from characters.until([self.after_name], MAX_NAME_CHARS)
        counted = _COUNTED.fullmatch(written.strip()) if self.is_counted else None
        parts.begin_call(checked_name(counted[1] if counted else written))
        if (yield from characters.skip_blanks()) == "{":
            yield from pass_value(characters, parts.add_arguments)
        else:
            parts.add_arguments("{}")

    def lark(self, tool: Tool, lark: Lark) -> str:
        count = '":" /[0-9]{1,3}/' if self.is_counted else ""
        head = (
            f"{lark.literal(self.before_name + tool.name)} {count} {lark.literal(self.after_name)}"
        )
        return f"{head} {json_object(tool.parameters)}"

    def written(self, name: str, arguments: str) -> str:
        """A call, of its arguments as JSON text."""
        count = ":0" if self.is_counted else ""
        return f"{self.before_name}{name}{count}{self.after_name}{arguments}"
