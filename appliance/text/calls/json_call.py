"""Calls written as one JSON object:
`{"name": "f", "arguments": {...}}`, under whatever names.

Knows no marks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.text.answer_parts import Parts
from appliance.text.calls.json_reading import pass_value, read_string, read_value
from appliance.text.calls.syntax import Tool, Tools
from appliance.text.characters import END, Characters, CutShort, NotThisForm, Reading
from appliance.text.lark import Lark, json_object

_NAMES = ("name", "tool_name")
_ARGUMENTS = ("arguments", "parameters")
_OTHERS = ("type", "id", "tool_call_id")
_NESTED = "function"  # of {"type": "function", "function": {...}}


@dataclass(frozen=True)
class JsonCall:
    """Read are all keys that are in use, in any order."""

    name: str = "name"  # the key that the model writes
    arguments: str = "arguments"  # likewise
    # it is a call only if it names a known function: where no mark sets calls apart
    # from other JSON
    only_known: bool = False

    @property
    def marks(self) -> Sequence[str]:
        return ()

    def read(self, characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:
        yield from characters.skip_blanks()
        yield from characters.expect("{")
        call = _Call(parts, tools, self.only_known)
        yield from self._read_object(characters, call)
        if not call.is_begun:
            raise CutShort if (yield from characters.peek()) == END else NotThisForm
        if not call.has_arguments:
            parts.add_arguments("{}")

    def _read_object(self, characters: Characters, call: _Call) -> Reading[None]:
        """Behind its opening bracket, to the closing one."""
        while (following := (yield from characters.skip_blanks())) != END:
            if following == "}":
                yield from characters.take()
                return
            if following == ",":
                yield from characters.take()
                continue
            if following != '"':
                call.break_off(following)
                return
            key = yield from read_string(characters)
            following = yield from characters.skip_blanks()
            if following != ":":
                call.break_off(following)
                return
            yield from characters.take()
            yield from self._read_entry(characters, key, call)

    def _read_entry(self, characters: Characters, key: str, call: _Call) -> Reading[None]:
        following = yield from characters.skip_blanks()
        if following == END:
            call.break_off(following)
        elif key in _ARGUMENTS:
            yield from call.read_arguments(characters)
        elif key in _NAMES or (key == _NESTED and following == '"'):
            call.begin((yield from read_string(characters)))
        elif key == _NESTED and following == "{" and call.nest():
            yield from characters.take()
            yield from self._read_object(characters, call)
        elif key in _OTHERS or call.is_begun:
            yield from read_value(characters)
        else:
            raise NotThisForm

    def lark(self, tool: Tool, lark: Lark) -> str:
        arguments = json_object(tool.parameters)
        return f"{lark.literal(self._head(tool.name))} {arguments} {lark.literal('}')}"

    def written(self, name: str, arguments: str) -> str:
        """A call, of its arguments as JSON text."""
        return f"{self._head(name)}{arguments}}}"

    def _head(self, name: str) -> str:
        written_name = json.dumps(name, ensure_ascii=False)
        return f"{{{json.dumps(self.name)}: {written_name}, {json.dumps(self.arguments)}: "


class _Call:
    """How far one call has been told."""

    def __init__(self, parts: Parts, tools: Tools, only_known: bool) -> None:
        self._parts = parts
        self._tools = tools
        self._only_known = only_known
        self._early_arguments: str | None = None  # written before the name
        self._is_nested = False
        self.is_begun = False
        self.has_arguments = False

    def nest(self) -> bool:
        """Whether what comes may be the object within the object: there is only one."""
        is_first, self._is_nested = not self._is_nested, True
        return is_first

    def begin(self, name: str) -> None:
        if self.is_begun:
            return
        if self._only_known and name not in self._tools:
            raise NotThisForm
        self._parts.begin_call(name)
        self.is_begun = True
        if self._early_arguments is not None:
            self._parts.add_arguments(self._early_arguments)

    def read_arguments(self, characters: Characters) -> Reading[None]:
        if self.has_arguments:
            yield from read_value(characters)
            return
        self.has_arguments = True
        first = yield from characters.skip_blanks()
        if first == '"':  # JSON within JSON
            self._argue((yield from read_string(characters)))
        elif self.is_begun:
            yield from pass_value(characters, self._parts.add_arguments)
        else:
            self._argue((yield from read_value(characters)))

    def _argue(self, text: str) -> None:
        if self.is_begun:
            self._parts.add_arguments(text)
        else:
            self._early_arguments = text

    def break_off(self, following: str) -> None:
        """Raises `NotThisForm` unless a part is told already: then the rest is left to
        whoever looks for the end.
        """
        if not self.is_begun:
            raise NotThisForm if following else CutShort
