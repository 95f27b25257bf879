"""Rules of a Lark grammar that no text can end, found before any of it is written.

The compiler takes `a: "x" a` and fails in the middle of an answer. Knows no compiler: what
is not understood here is left to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

# A rule names others before they are written, so each pass may settle only one more.
# Grammars are written from the whole to its parts, and are gone through backwards.
_MAX_PASSES = 20
_START = "start"
_TOKEN = re.compile(
    r"""(?P<skip> (?: // | \# )[^\n]* | [ \t\r]+ )
    | (?P<newline> \n )
    | (?P<json> %(?:json|regex|llguidance) [ \t\r\n]* )
    | (?P<other> "(?:\\.|[^"\\\n])*"i? | /(?:\\.|[^/\\])+/[imslux]* | <[^<>\s]+> | @[\w-]+
        | _?[A-Z][_A-Z0-9-]* | -> [ \t]* \w+ )
    | (?P<maybe> [?*] | [{~] [ \t]* 0+ (?!\d) | [{] [ \t]* , )
    | (?P<name> _?[a-z][_a-z0-9-]* )
    | (?P<sign> . )""",
    re.VERBOSE | re.DOTALL,
)
_JSON = json.JSONDecoder()


@dataclass(frozen=True)
class Rule:
    """A rule's name and where it is written; `body` are its alternatives."""

    name: str
    line: int
    body: Sequence[_Token]


def endless_rule(source: str) -> Rule | None:
    """A rule that `start` can come to, that leads to itself and that nothing ends."""
    try:
        rules = _rules(source)
        ending = _ending(rules)
    except (_NotUnderstood, RecursionError):
        return None
    reached = _reached(rules)
    endless = {name for name in rules if name in reached and name not in ending}
    name = next((name for name in rules if name in endless), None)
    passed = set()
    while name is not None and name not in passed:
        passed.add(name)
        # every alternative of a rule without an end has another one in it
        name = next(token.text for token in rules[name].body if token.text in endless)
    return None if name is None else rules[name]


class _NotUnderstood(Exception):
    pass


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    line: int


def _rules(source: str) -> dict[str, Rule]:
    rules = {}
    for statement in _statements(source):
        while statement and statement[0].text in ("!", "?"):
            statement.pop(0)
        if not statement or statement[0].kind != "name":
            continue  # a terminal, or no rule
        colon = next((at for at, token in enumerate(statement) if token.text == ":"), None)
        body = statement[colon + 1 :] if colon is not None else []
        if colon is None or any(token.text in ("%", "@", ":") for token in body):
            raise _NotUnderstood
        rules[statement[0].text] = Rule(statement[0].text, statement[0].line, body)
    return rules


def _statements(source: str) -> Iterator[list[_Token]]:
    """One a line; a line that begins with a bar goes on with the one before."""
    statement: list[_Token] = []
    is_new_line = True
    for token in _tokens(source):
        if token.kind == "newline":
            is_new_line = True
            continue
        if is_new_line and token.text != "|":
            yield statement
            statement = []
        is_new_line = False
        statement.append(token)
    yield statement


def _tokens(source: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(source):
        found = _TOKEN.match(source, at)
        kind = found.lastgroup if found else None
        if found is None or kind is None:
            raise _NotUnderstood
        end = found.end()
        if kind == "json":
            try:
                _, end = _JSON.raw_decode(source, end)
            except ValueError as error:
                raise _NotUnderstood from error
            kind = "other"
        if kind != "skip":
            yield _Token(kind, found[0], line)
        line += source.count("\n", at, end)
        at = end


def _ending(rules: Mapping[str, Rule]) -> set[str]:
    """The names of the rules that some text ends."""
    ending: set[str] = set()
    for _ in range(_MAX_PASSES):
        num_before = len(ending)
        for rule in reversed(list(rules.values())):
            if rule.name not in ending and _Body(rule.body, rules, ending).can_end():
                ending.add(rule.name)
        if len(ending) == num_before:
            return ending
    raise _NotUnderstood


def _reached(rules: Mapping[str, Rule]) -> set[str]:
    reached, ahead = {_START}, [_START]
    while ahead:
        rule = rules.get(ahead.pop())
        names = {token.text for token in rule.body if token.kind == "name"} if rule else set()
        new = names - reached
        reached |= new
        ahead += new
    return reached


class _Body:
    """Reads a rule's alternatives from the left."""

    def __init__(self, body: Sequence[_Token], rules: Mapping[str, Rule], ending: set[str]) -> None:
        self._body = body
        self._rules = rules
        self._ending = ending
        self._at = 0

    def can_end(self) -> bool:
        result = self._alternatives()
        if self._at < len(self._body):
            raise _NotUnderstood
        return result

    @property
    def _next(self) -> str:
        return self._body[self._at].text if self._at < len(self._body) else ""

    def _alternatives(self) -> bool:
        result = self._sequence()
        while self._next == "|":
            self._at += 1
            result |= self._sequence()
        return result

    def _sequence(self) -> bool:
        result = True
        while self._next not in ("", "|", ")", "]"):
            ends = self._item()
            while self._at < len(self._body) and self._body[self._at].kind == "maybe":
                self._at += 1
                ends = True
            result &= ends
        return result

    def _item(self) -> bool:
        token = self._body[self._at]
        self._at += 1
        if token.text in ("(", "["):
            ends = self._alternatives()
            if self._next != (")" if token.text == "(" else "]"):
                raise _NotUnderstood
            self._at += 1
            return ends or token.text == "["
        return token.kind != "name" or token.text in self._ending or token.text not in self._rules
