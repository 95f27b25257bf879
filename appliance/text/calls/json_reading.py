"""JSON that comes bit by bit: told as it is written, or read whole. Knows no call.

Syntax: RFC 8259. Only strings and brackets are told apart, enough to find the end:
whether it is valid is for whoever parses it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from appliance.text.characters import END, Characters, CutShort, NotThisForm, Reading

_OPEN, _CLOSE = "{[", "}]"
_BEHIND_SCALAR = ",}]"


def pass_value(characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
    """Tells one value, character by character, to its end or that of the text."""
    first = yield from characters.skip_blanks()
    if first == '"':
        yield from _pass_string(characters, emit)
    elif first and first in _OPEN:
        yield from _pass_nested(characters, emit)
    else:
        yield from _pass_scalar(characters, emit)


def read_value(characters: Characters) -> Reading[str]:
    """One value as it is written."""
    pieces: list[str] = []
    yield from pass_value(characters, pieces.append)
    return "".join(pieces)


def read_string(characters: Characters) -> Reading[str]:
    """What a string says. Raises `NotThisForm` if what comes next is none."""
    written = yield from read_value(characters)
    try:
        value = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise (CutShort if (yield from characters.peek()) == END else NotThisForm) from error
    if not isinstance(value, str):
        raise NotThisForm
    return value


def escaped(text: str) -> str:
    """As it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _pass_string(characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
    """A string with its quotes."""
    emit((yield from characters.take()))
    while (character := (yield from characters.take())) != END:
        emit(character)
        if character == '"':
            return
        if character == "\\":
            emit((yield from characters.take()))


def _pass_nested(characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
    depth = 0
    while (character := (yield from characters.peek())) != END:
        if character == '"':
            yield from _pass_string(characters, emit)
            continue
        emit((yield from characters.take()))
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth == 0:
            return


def _pass_scalar(characters: Characters, emit: Callable[[str], None]) -> Reading[None]:
    while (character := (yield from characters.peek())) != END:
        if character in _BEHIND_SCALAR or character.isspace():
            return
        emit((yield from characters.take()))
