"""Calls written as Python:
`f(a=1, b="x")`, several of them in a list, or code to be run.

Knows no marks.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.text.answer_parts import Parts
from appliance.text.calls.json_call import JsonCall
from appliance.text.calls.json_reading import escaped
from appliance.text.calls.named_parameters import types_of
from appliance.text.calls.syntax import MAX_NAME_CHARS, Tool, Tools, checked_name
from appliance.text.characters import END, Characters, CutShort, NotThisForm, Reading
from appliance.text.lark import Lark, either, json_value

_OPEN, _CLOSE = "([{", ")]}"
_MAX_VALUE_CHARS = 100_000  # of one argument: Python's own parser reads it
_RUNNERS = ("python", "ipython", "code_interpreter")
_BUILT_IN = re.compile(r"\s*([A-Za-z_][\w]*)\.call\(")
_PREFIX_OF_BUILT_IN = re.compile(r"\s*([A-Za-z_]\w*(\.(c(a(l(l(\()?)?)?)?)?)?)?")


class PythonCall:
    """`NAME(key=value, ...)`; the values are Python literals, and JSON's words are
    understood too.
    """

    @property
    def marks(self) -> Sequence[str]:
        return ()

    def read(self, characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:  # noqa: ARG002 - the Protocol's
        name, _ = yield from characters.until(["("], MAX_NAME_CHARS)
        parts.begin_call(checked_name(name))
        yield from pass_arguments(characters, parts)

    def lark(self, tool: Tool, lark: Lark) -> str:
        entries = [
            text if key in tool.required else f"({text})?"
            for at, key in enumerate(tool.properties)
            for text in [self._lark_argument(key, tool.schema_of(key), has_comma=at > 0)]
        ]
        return " ".join([lark.literal(tool.name + "("), *entries, lark.literal(")")])

    def written(self, name: str, arguments: str) -> str:
        """A call, of its arguments as JSON text. Raises `ValueError` if that is no object."""
        values = json.loads(arguments)
        if not isinstance(values, dict):
            raise ValueError(f"a call's arguments are not a JSON object: {arguments[:80]}")  # noqa: TRY004 - what was sent
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in values.items())})"

    @staticmethod
    def _lark_argument(key: str, schema: Mapping[str, Any], *, has_comma: bool) -> str:
        # A call may begin with the comma of an optional argument left out before; it is
        # read all the same.
        return f"{json.dumps((', ' if has_comma else '') + key + '=')} {_lark_value(schema)}"


class PythonTag:
    """What a Llama writes behind its mark for code: a call as JSON,
    `NAME.call(key="value")`, or plain Python.

    Plain Python is a call of `python`, or of whichever of `ipython` and
    `code_interpreter` there is, with `code` as its argument.
    """

    @property
    def marks(self) -> Sequence[str]:
        return ()

    def read(self, characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:
        if (yield from characters.skip_blanks()) == "{":
            yield from JsonCall().read(characters, parts, tools)
            return
        head = yield from self._read_head(characters)
        if built_in := _BUILT_IN.fullmatch(head):
            parts.begin_call(built_in[1])
            yield from pass_arguments(characters, parts)
            return
        if not head or (characters.is_cut and _PREFIX_OF_BUILT_IN.fullmatch(head)):
            raise CutShort
        parts.begin_call(next((name for name in _RUNNERS if name in tools), _RUNNERS[0]))
        parts.add_arguments('{"code": "')
        characters.put_back(head)
        while (character := (yield from characters.take())) != END:
            parts.add_arguments(escaped(character))
        parts.add_arguments('"}')

    @staticmethod
    def _read_head(characters: Characters) -> Reading[str]:
        """As far as it may become the beginning of a built-in's call, and one character
        more if it does not.
        """
        head = ""
        while not _BUILT_IN.fullmatch(head):
            character = yield from characters.take()
            head += character
            if character == END or not _PREFIX_OF_BUILT_IN.fullmatch(head):
                break
        return head

    def lark(self, tool: Tool, lark: Lark) -> str:
        return JsonCall(arguments="parameters").lark(tool, lark)


def pass_arguments(characters: Characters, parts: Parts) -> Reading[None]:
    """`key=value, ...)` as a JSON object, argument by argument."""
    separator = "{"
    while True:
        written, end = yield from _read_argument(characters)
        key, equals, value = written.partition("=")
        if equals:
            parts.add_arguments(
                f"{separator}{json.dumps(key.strip(' ,'), ensure_ascii=False)}: "
                f"{_as_json(value.strip())}"
            )
            separator = ", "
        if end != ",":
            break
    parts.add_arguments("{}" if separator == "{" else "}")


def _read_argument(characters: Characters) -> Reading[tuple[str, str]]:
    """One argument as it is written, and what ended it: a comma, the closing bracket or
    the end of the text.
    """
    written, depth, quote = "", 0, ""
    while (character := (yield from characters.take())) != END:
        if not quote and depth == 0 and character in ",)":
            return written, character
        written += character
        if character == "\\" and quote:
            written += yield from characters.take()
        elif character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        elif not quote:
            depth += (character in _OPEN) - (character in _CLOSE)
    return written, END


def _as_json(written: str) -> str:
    try:
        return json.dumps(json.loads(written), ensure_ascii=False)
    except (ValueError, RecursionError):
        pass  # no JSON: most of Python's literals are none
    try:
        if len(written) > _MAX_VALUE_CHARS:
            raise NotThisForm
        return json.dumps(ast.literal_eval(written), ensure_ascii=False)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, NotThisForm):
        return json.dumps(written, ensure_ascii=False)  # as it is, rather than not at all


def _lark_value(schema: Mapping[str, Any]) -> str:
    """JSON is Python too, but for three words."""
    types, choices = types_of(schema), schema.get("enum")
    if isinstance(choices, list) and choices:
        return either(json.dumps(_python_of(choice)) for choice in choices)
    words = _words_of(types)
    others = types - {"boolean", "null"}
    expressions = [*words, *([json_value({**schema, "type": sorted(others)})] if others else [])]
    return either(expressions) if expressions else json_value({"type": "string"})


def _words_of(types: frozenset[str]) -> Sequence[str]:
    return [
        *(['"True"', '"False"'] if "boolean" in types else []),
        *(['"None"'] if "null" in types else []),
    ]


def _python_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
