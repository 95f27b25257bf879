"""What somebody sent as a grammar, in llguidance's own form, within bounds.

Knows no vocabulary, and compiles nothing.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import gbnf_to_lark

from appliance.errors import BadRequest
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.calls.syntax import Tool
from appliance.text.endless_rules import endless_rule
from appliance.text.gbnf import prepared_gbnf
from appliance.text.lark import JSON_BLANKS
from appliance.text.schema.numbers import shown
from appliance.text.schema.translation import Loosening, Translated, translate

MAX_GRAMMAR_CHARS = 64 << 10
MAX_SCHEMA_CHARS = 256 << 10
MAX_REASON_CHARS = 600
_NO_LOOKING_AHEAD = '%llguidance {"no_forcing": true}'
_JSON = json.JSONDecoder()
_JSON_IN_LARK = re.compile(r"%json[ \t\r\n]*")

_NAMES = {
    GrammarKind.JSON_SCHEMA: "JSON schema",
    GrammarKind.REGEX: "regular expression",
    GrammarKind.LARK: "Lark grammar",
    GrammarKind.GBNF: "GBNF grammar",
    GrammarKind.CHOICE: "list of choices",
}


@dataclass(frozen=True)
class WrittenGrammar:
    """A grammar in llguidance's own form, and the places in its schemas that it leaves out."""

    grammar: str
    unenforced: Sequence[str] = ()


class SentSchemas:
    """Makes of each schema of one grammar what the compiler keeps to."""

    def __init__(self, loosening: Loosening, *, is_strict: bool) -> None:
        self._loosening = loosening
        self._is_strict = is_strict
        self.unenforced: dict[str, None] = {}  # in order

    def enforced(self, schema: object) -> dict[str, Any]:
        """Raises `BadRequest`."""
        return self._noted(translate(schema, self._loosening), "", is_strict=self._is_strict)

    def enforced_in_lark(self, schema: object) -> dict[str, Any]:
        return self._noted(translate(schema, self._loosening), "%json", is_strict=False)

    def enforced_tool(self, tool: Tool) -> Tool:
        translated = translate({"type": "object", **tool.parameters}, self._loosening)
        schema = self._noted(translated, tool.name, is_strict=tool.is_strict)
        return replace(tool, parameters=schema)

    def _noted(self, translated: Translated, name: str, *, is_strict: bool) -> dict[str, Any]:
        places = [f"{name}{place}" for place in translated.unenforced]
        if places and is_strict:
            keyword = places[0].rpartition("/")[2]
            raise BadRequest(
                f"The JSON schema's {keyword!r} ({shown(places[0])}) cannot be enforced, and "
                "'strict' demands it. Take it out of the schema, or leave out 'strict', so that it "
                "is left to the model."
            )
        self.unenforced.update(dict.fromkeys(places))
        return translated.schema


def written_grammar(kind: GrammarKind, source: str, schemas: SentSchemas) -> WrittenGrammar:
    """The same in llguidance's own form. Raises `BadRequest`."""
    limit = (
        MAX_SCHEMA_CHARS
        if kind in (GrammarKind.JSON_SCHEMA, GrammarKind.CHOICE)
        else MAX_GRAMMAR_CHARS
    )
    if len(source) > limit:
        raise BadRequest(
            f"The {_NAMES[kind]} is {len(source)} characters long; at most {limit} are allowed."
        )
    return WrittenGrammar(_to_llguidance(kind, source, schemas), tuple(schemas.unenforced))


def _to_llguidance(kind: GrammarKind, source: str, schemas: SentSchemas) -> str:
    if kind is GrammarKind.JSON_SCHEMA:
        return _schema_to_llguidance(source, schemas)
    if kind is GrammarKind.CHOICE:
        return LLMatcher.grammar_from_lark(
            "start: " + " | ".join(json.dumps(text) for text in json.loads(source))
        )
    if kind is GrammarKind.REGEX:
        return LLMatcher.grammar_from_regex(source)
    if kind is GrammarKind.LARK:
        _check_ends(source)
        return _sent_lark(_bounded_lark(source, schemas))
    gbnf = prepared_gbnf(source)
    try:
        lark = gbnf_to_lark(gbnf.source)
    except Exception as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"The grammar is not valid GBNF: {reason[:MAX_REASON_CHARS]}") from error
    _check_ends(lark, gbnf.names)
    return _sent_lark(_bounded_lark(lark, schemas))


def _sent_lark(source: str) -> str:
    """Somebody's own terminals, which may force one byte after the other without an end
    (`/a+/ /a+/`: the first takes every "a"): looking ahead for what is forced would never
    return. So it does not look; tokens are chosen as the model likes.
    """
    return LLMatcher.grammar_from_lark(f"{source}\n{_NO_LOOKING_AHEAD}")


def _check_ends(lark: str, names: Mapping[str, str] | None = None) -> None:
    """`names` are those of rules before they were translated; lines are lost then."""
    rule = endless_rule(lark)
    if rule is None:
        return
    name = rule.name if names is None else names.get(rule.name, rule.name)
    place = f" (line {rule.line})" if names is None else ""
    raise BadRequest(
        f"The grammar's rule {name!r}{place} has no end: no text at all matches it, because "
        "each of its alternatives leads to itself again. Add an alternative that does not."
    )


def grammars_of(written: str) -> list[dict[str, object]]:
    """llguidance's form of a grammar as a list of which the first is the whole; plain
    Lark is left as text by it.
    """
    if not written.startswith("{"):
        return [{"lark_grammar": written}]
    grammars: list[dict[str, object]] = json.loads(written)["grammars"]
    return grammars


def _schema_to_llguidance(source: str, schemas: SentSchemas) -> str:
    try:
        return LLMatcher.grammar_from_json_schema(
            json.dumps(schemas.enforced(json.loads(source))),
            overrides={"whitespace_pattern": JSON_BLANKS},
        )
    except RecursionError as error:
        raise BadRequest("The JSON schema is nested too deeply.") from error
    except ValueError as error:
        reason = str(error)[:MAX_REASON_CHARS]
        raise BadRequest(f"The JSON schema is not valid: {reason}") from error


def _bounded_lark(source: str, schemas: SentSchemas) -> str:
    """With every schema in it made enforceable. Raises `BadRequest`."""
    if source.lstrip().startswith("{"):  # llguidance would read it as a form of its own
        raise BadRequest("A Lark grammar must begin with a rule (got an opening brace).")
    pieces = []
    at = 0
    for found in _JSON_IN_LARK.finditer(source):
        if found.start() < at:
            continue
        try:
            schema, end = _JSON.raw_decode(source, found.end())
        except RecursionError as error:
            raise BadRequest("A JSON schema in the Lark grammar is nested too deeply.") from error
        except ValueError:
            schema = None
        if not isinstance(schema, dict):
            continue  # it stands in a literal or a comment, or llguidance says what is wrong
        pieces += [source[at : found.end()], json.dumps(schemas.enforced_in_lark(schema))]
        at = end
    return "".join([*pieces, source[at:]])
