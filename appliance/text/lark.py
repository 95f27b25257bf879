"""Grammars in llguidance's Lark dialect, put together from pieces.

Knows no form of answers.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Between JSON's tokens nothing, one space, or a line break and its indentation: an
# unbounded run of blanks would let a weak model write them until its tokens are used
# up.
JSON_BLANKS = r" |\n[ \t]{0,24}"
_ANY_TEXT = "/(?s:.*)/"
BLANKS = r"/[ \n]{0,4}/"
NOTHING = '""'


class Lark:
    """The rules of one grammar. Its expressions are strings, to be joined by blanks.

    `control_tokens` are the special tokens that have no text, by how they are written:
    in a literal each stands for the token itself, everything else for its characters.
    """

    def __init__(self, control_tokens: Mapping[str, int]) -> None:
        self._control_tokens = control_tokens
        names = sorted(control_tokens, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names))) if names else None
        self._rules: list[str] = []

    def source(self, start: str) -> str:
        """The whole grammar, of what the expression `start` says."""
        return "\n".join([f"start: {start}", *self._rules])

    def rule(self, expression: str, attributes: str = "", name: str = "r") -> str:
        """`expression` under a name that begins with `name`:
        a capital for a regular expression.
        """
        name += str(len(self._rules))
        self._rules.append(f"{name}{attributes}: {expression}")
        return name

    def literal(self, text: str) -> str:
        pieces = [
            _quoted(piece) if isinstance(piece, str) else f"<[{piece}]>"
            for piece in self._pieces(text)
        ]
        return " ".join(pieces) or NOTHING

    def text_until(self, end: str, others: Sequence[str] = ()) -> str:
        """Any text that does not have `end` in it, and `end`.

        Where that is a token, the text has none of `others` in it either; nor of either
        what they are in letters.
        """
        first, *rest = self._pieces(end)
        if isinstance(first, int):  # which a model could also write letter by letter
            excluded = "|".join(_in_regex(mark) for mark in (end, *others))
            text = self.rule(f"/(?s:.*)/ & ~/(?s:.*({excluded}).*)/", name="T")
            return f"{text} {self.literal(end)}"
        whole = self.rule(_ANY_TEXT, f"[suffix={_quoted(first)}]")
        return " ".join([whole, *(self.literal(end[len(first) :]) for _ in rest[:1])])

    def text_without(self, marks: Sequence[str], first: str = "") -> str:
        """Any text that has none of `marks` in it, nor begins with other than the
        regular expression `first`.
        """
        excluded = "|".join(map(_in_regex, marks))
        without = f" & ~/(?s:.*({excluded}).*)/" if marks else ""
        return self.rule(f"/{first}(?s:.*)/{without}", name="T")

    def _pieces(self, text: str) -> list[str | int]:
        """Literal text and tokens, in order; nothing empty."""
        pieces: list[str | int] = []
        at = 0
        for found in self._names.finditer(text) if self._names else ():
            pieces += [text[at : found.start()], self._control_tokens[found[0]]]
            at = found.end()
        pieces.append(text[at:])
        return [piece for piece in pieces if piece != ""]


def json_value(schema: Mapping[str, Any]) -> str:
    """Of exactly the JSON that a schema allows."""
    return "%json " + json.dumps({**schema, "x-guidance": {"whitespace_pattern": JSON_BLANKS}})


def json_object(schema: Mapping[str, Any]) -> str:
    """Of the objects that a schema of parameters allows;
    one without a type means an object.
    """
    return json_value({"type": "object", **schema})


def either(expressions: Iterable[str]) -> str:
    return "(" + " | ".join(expressions) + ")"


def _in_regex(text: str) -> str:
    return re.sub(r"([][\\.+*?(){}|^$/&~])", r"\\\1", text).replace("\n", "\\n")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
