"""Calls written with a mark around each parameter, as XML is; told as JSON.

Knows no marks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.text.answer_parts import Parts
from appliance.text.calls.json_reading import escaped, read_value
from appliance.text.calls.syntax import MAX_NAME_CHARS, Tool, Tools, checked_name
from appliance.text.characters import Characters, NotThisForm, Reading
from appliance.text.lark import NOTHING, Lark, either, json_value


@dataclass(frozen=True, kw_only=True)
class NamedParameters:
    """`before_name NAME after_name`, then parameters as `open KEY after_key VALUE
    close`, then `close_all`.

    A value is text as it is where the parameter is a string, else JSON.
    """

    open: str
    after_key: str
    close: str
    before_name: str = ""
    after_name: str = ""
    close_all: str = ""
    blank: str = "\n"  # white space that the model writes between parameters
    padding: str = ""  # a character on both sides of each value that is no part of it
    open_value: str = ""  # a mark before each value
    # a flag behind the key gives the kind of value: `string="true"` or `string="false"`
    includes_type: bool = False

    @property
    def marks(self) -> Sequence[str]:
        return [self.open, self.close]

    def read(self, characters: Characters, parts: Parts, tools: Tools) -> Reading[None]:
        yield from characters.skip_blanks()
        yield from characters.expect(self.before_name)
        name = yield from self._read_name(characters)
        parts.begin_call(name)
        parts.add_arguments("{")
        separator = ""
        while (yield from self._is_next(characters, self.open)):
            key, kinds = yield from self._read_key(characters, tools.get(name, Tool(name)))
            parts.add_arguments(f"{separator}{json.dumps(key, ensure_ascii=False)}: ")
            if self.open_value:
                yield from self._is_next(characters, self.open_value)
            yield from self._pass_value(characters, parts, kinds)
            separator = ", "
        parts.add_arguments("}")
        yield from self._is_next(characters, self.close_all)

    @staticmethod
    def _is_next(characters: Characters, mark: str) -> Reading[bool]:
        yield from characters.skip_blanks()
        return bool(mark) and (yield from characters.skip(mark))

    def _read_name(self, characters: Characters) -> Reading[str]:
        """To `after_name`, or, where that is only white space,
        to that or the next mark.
        """
        mark = self.after_name.strip()
        written, found = yield from characters.until(
            [mark] if mark else ["\n", "<"], MAX_NAME_CHARS
        )
        if not mark:
            characters.put_back(found)
        return checked_name(written)

    def _read_key(self, characters: Characters, tool: Tool) -> Reading[tuple[str, frozenset[str]]]:
        """A parameter's name, and the JSON types that its value may have; empty if that
        is not known.
        """
        try:
            head, _ = yield from characters.until(
                [">" if self.includes_type else self.after_key], MAX_NAME_CHARS
            )
        except NotThisForm:
            return "", frozenset()  # the call is broken, but its beginning is emitted already
        if not self.includes_type:
            return head.strip(), types_of(tool.schema_of(head.strip()))
        return head.split('"')[0], frozenset(
            ["string"] if 'string="false"' not in head else ["other"]
        )

    def _pass_value(
        self, characters: Characters, parts: Parts, types: frozenset[str]
    ) -> Reading[None]:
        value = _Value(self.padding)
        if types != {"string"}:
            if (
                types
                and "string" not in types
                and (yield from characters.skip_blanks()) in ("{", "[", '"')
            ):
                # in which the mark may be part of a text
                value.keep((yield from read_value(characters)))
            yield from characters.passing([self.close], value.keep)
            parts.add_arguments(_as_json(value.kept, types))
            return
        parts.add_arguments('"')
        yield from characters.passing(
            [self.close], lambda text: parts.add_arguments(escaped(value.next(text)))
        )
        parts.add_arguments('"')

    def lark(self, tool: Tool, lark: Lark) -> str:
        parameters = [
            text if key in tool.required else f"({text})?"
            for key in tool.properties
            for text in [self._lark_parameter(key, tool.schema_of(key), lark)]
        ]
        head = lark.literal(self.before_name + tool.name + self.after_name)
        return " ".join([head, *parameters, lark.literal(self.close_all)])

    def _lark_parameter(self, key: str, schema: Mapping[str, Any], lark: Lark) -> str:
        types = types_of(schema)
        flag = (
            f'" string="{json.dumps(types == {"string"})}">'
            if self.includes_type
            else self.after_key
        )
        before_value = self.blank + self.open_value if self.open_value else self.padding
        head = lark.literal(self.open + key + flag + before_value)
        tail = self.padding + self.close
        blank = lark.literal(self.blank) if self.blank else NOTHING
        if (types and "string" not in types) or (self.includes_type and types != {"string"}):
            return f"{head} {json_value(schema)} {lark.literal(tail)} {blank}"
        choices = schema.get("enum")
        if isinstance(choices, list) and choices:
            chosen = either(lark.literal(str(choice)) for choice in choices)
            return f"{head} {chosen} {lark.literal(tail)} {blank}"
        return f"{head} {lark.text_until(self.close)} {blank}"


class _Value:
    """The text of one value, without the padding around it."""

    def __init__(self, padding: str) -> None:
        self._padding = padding
        self._held = ""
        self._is_begun = False
        self.kept = ""

    def next(self, character: str) -> str:
        """What is certain to belong to the value; a padding character is held until
        something follows it.
        """
        is_first, self._is_begun = not self._is_begun, True
        if character == self._padding:
            held, self._held = self._held, "" if is_first else character
            return held
        held, self._held = self._held, ""
        return held + character

    def keep(self, text: str) -> None:
        for character in text:
            self.kept += self.next(character)


def types_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """The JSON types that a schema names; empty where it names none."""
    named = schema.get("type")
    types = {named} if isinstance(named, str) else set(named) if isinstance(named, list) else set()
    for variants in (schema.get("anyOf"), schema.get("oneOf")):
        if isinstance(variants, list):
            types = types.union(
                *(types_of(variant) for variant in variants if isinstance(variant, Mapping))
            )
    choices = schema.get("enum")
    if (
        not types
        and isinstance(choices, list)
        and choices
        and all(isinstance(choice, str) for choice in choices)
    ):
        types = {"string"}
    return frozenset(types)


_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}


def _as_json(written: str, types: frozenset[str]) -> str:
    """A value that is not, or not only, text:
    as it is where that is JSON, else as text.
    """
    text = written.strip()
    text = _PYTHON_WORDS.get(text, text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return json.dumps(written, ensure_ascii=False)
    if isinstance(value, str) or ("string" in types and not _is_of(value, types)):
        return json.dumps(written, ensure_ascii=False) if "string" in types else text
    return text


def _is_of(value: object, types: frozenset[str]) -> bool:
    if value is None:
        return "null" in types
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int | float):
        return "number" in types or (isinstance(value, int) and "integer" in types)
    return ("object" if isinstance(value, dict) else "array") in types
