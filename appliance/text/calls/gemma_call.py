"""Calls as Gemma 4 writes them: `call:NAME{key:<|"|>text<|"|>,other:5}`; told as JSON.

Knows no marks around them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.text.answer_parts import Parts
from appliance.text.calls.json_reading import escaped
from appliance.text.calls.named_parameters import types_of
from appliance.text.calls.syntax import MAX_NAME_CHARS, Tool, Tools, checked_name
from appliance.text.characters import END, Characters, Reading
from appliance.text.lark import Lark, either, json_value

QUOTE = '<|"|>'
_HEAD = "call:"
_MAX_DEPTH = 64  # what is deeper is told as it is written: reading it goes as deep
_BEHIND_WORD = ",}]"


class GemmaCall:
    """Keys and text are unquoted or between quotation marks
    of Gemma's own; all else is JSON.
    """

    @property
    def marks(self) -> Sequence[str]:
        return [QUOTE]

    def read(self, characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:  # noqa: ARG002 - the Protocol's
        yield from characters.skip_blanks()
        yield from characters.expect(_HEAD)
        name, _ = yield from characters.until(["{"], MAX_NAME_CHARS)
        parts.begin_call(checked_name(name))
        characters.put_back("{")
        yield from _pass_value(characters, parts)

    def lark(self, tool: Tool, lark: Lark) -> str:
        head = lark.literal(_HEAD + tool.name)
        return f"{head} {_lark_object({'type': 'object', **tool.parameters}, lark)}"


def _pass_value(characters: Characters, parts: Parts, depth: int = 0) -> Reading[None]:
    following = yield from characters.skip_blanks()
    if following == "{" and depth < _MAX_DEPTH:
        yield from _pass_entries(characters, parts, "}", depth)
    elif following == "[" and depth < _MAX_DEPTH:
        yield from _pass_entries(characters, parts, "]", depth)
    elif (yield from characters.skip(QUOTE)):
        parts.add_arguments('"')
        yield from characters.passing([QUOTE], lambda text: parts.add_arguments(escaped(text)))
        parts.add_arguments('"')
    else:
        parts.add_arguments(_json_of((yield from _read_word(characters, _BEHIND_WORD))))


def _pass_entries(characters: Characters, parts: Parts, close: str, depth: int) -> Reading[None]:
    parts.add_arguments((yield from characters.take()))
    separator = ""
    while (following := (yield from characters.skip_blanks())) not in (close, END):
        if following == ",":
            yield from characters.take()
            separator = ", "
            continue
        parts.add_arguments(separator)
        if close == "}":
            parts.add_arguments(
                json.dumps((yield from _read_key(characters)), ensure_ascii=False) + ": "
            )
        yield from _pass_value(characters, parts, depth + 1)
        if (yield from characters.skip_blanks()) not in (",", close):
            return  # broken: what follows is left to whoever looks for the call's end
    parts.add_arguments((yield from characters.take()))


def _read_key(characters: Characters) -> Reading[str]:
    if (yield from characters.skip(QUOTE)):
        pieces: list[str] = []
        yield from characters.passing([QUOTE], pieces.append)
        yield from characters.skip(":")
        return "".join(pieces)
    key = yield from _read_word(characters, ":}")
    yield from characters.skip(":")
    return key.strip()


def _read_word(characters: Characters, ends: str) -> Reading[str]:
    """To the first of `ends`, which stays the next."""
    word = ""
    while (character := (yield from characters.take())) != END:
        if character in ends:
            characters.put_back(character)
            break
        word += character
    return word


def _json_of(word: str) -> str:
    text = word.strip()
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    return text


def _lark_object(schema: Mapping[str, Any], lark: Lark) -> str:
    tool = Tool("", schema)
    entries = [
        f"{lark.literal(key + ':')} {_lark_value(tool.schema_of(key), lark)}"
        for key in sorted(tool.properties, key=lambda key: key not in tool.required)
    ]
    num_required = sum(key in tool.required for key in tool.properties)
    required, optional = entries[:num_required], entries[num_required:]
    return f'"{{" {_separated(required, optional)} "}}"'


def _separated(required: list[str], optional: list[str]) -> str:
    """All of `required`, and in order any of `optional`, with commas between."""
    if required:
        return ' "," '.join(required) + "".join(f' ("," {entry})?' for entry in optional)
    variants = [
        optional[at] + "".join(f' ("," {entry})?' for entry in optional[at + 1 :])
        for at in range(len(optional))
    ]
    return either(['""', *variants])


def _lark_value(schema: Mapping[str, Any], lark: Lark) -> str:
    types = types_of(schema)
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return either(
            lark.literal(QUOTE + choice + QUOTE if isinstance(choice, str) else json.dumps(choice))
            for choice in choices
        )
    if types == {"object"}:
        return _lark_object(schema, lark)
    if types == {"array"}:
        items = schema.get("items")
        item = _lark_value(items if isinstance(items, Mapping) else {}, lark)
        return f'"[" ({item} ("," {item})*)? "]"'
    if types and types <= {"integer", "number", "boolean", "null"}:
        return json_value(schema)
    return f"{lark.literal(QUOTE)} {lark.text_until(QUOTE)}"
