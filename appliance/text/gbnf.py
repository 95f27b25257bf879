"""GBNF grammars as llguidance's translation to Lark takes them, which knows less of GBNF.

Compiles nothing. Format: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|[A-Za-z0-9_-]+', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|.)", re.DOTALL)
_ROOT, _START = "root", "start"  # the whole, in GBNF and in Lark
_LAST_ASCII = 0x7F


@dataclass(frozen=True)
class PreparedGbnf:
    """`names` are those that somebody wrote, by what Lark calls these rules."""

    source: str
    names: Mapping[str, str]


def prepared_gbnf(source: str) -> PreparedGbnf:
    """Characters by number are written out, for their leading zeros would be lost; a rule
    called `start` gets another name, for the one called `root` becomes that.
    """
    used = {match[0] for match in _TOKEN.finditer(source)}
    free = next(name for at in range(len(used) + 1) if (name := f"{_START}_{at}") not in used)

    def prepared(match: re.Match[str]) -> str:
        token = match[0]
        if token[0] in '"[':
            return _ESCAPE.sub(_written_out, token)
        return free if token == _START else token

    return PreparedGbnf(_TOKEN.sub(prepared, source), {_START: _ROOT, free: _START})


def _written_out(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    if digits is None:
        return escape[0]
    number = int(digits, 16)
    if number <= _LAST_ASCII:  # which may mean something where it stands
        return f"\\x{number:02x}"
    is_character = number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF
    return chr(number) if is_character else escape[0]
