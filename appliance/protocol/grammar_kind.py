"""The languages in which the form of an answer can be written. Knows none of them."""

from __future__ import annotations

import enum


class GrammarKind(str, enum.Enum):
    """What a grammar's source is written in."""

    JSON_SCHEMA = "json_schema"  # as JSON text
    REGEX = "regex"  # of Rust's regex syntax, without look-around: the whole answer matches
    LARK = "lark"  # llguidance's dialect
    GBNF = "gbnf"  # llama.cpp's
    CHOICE = "choice"  # a JSON list of strings, one of which is the answer
