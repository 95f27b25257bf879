"""The languages in which a form of answers can be written.

Knows none of them: this is for both ends of the channel.
"""

from __future__ import annotations

import enum


class GrammarKind(str, enum.Enum):
    """`JSON_SCHEMA` is a schema as JSON text, `CHOICE` a JSON list of strings of which
    the answer is one.
    """

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"  # of Rust's regex syntax, without look-around: the whole answer matches
    LARK = "lark"  # llguidance's dialect
    GBNF = "gbnf"  # llama.cpp's
    CHOICE = "choice"
