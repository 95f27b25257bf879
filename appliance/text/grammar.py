"""JSON schemas, regular expressions, Lark and GBNF as masks of tokens, by llguidance.

Knows no model and no sampling.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. Whatever
somebody sends is either compiled within the bounds here or refused; it is never left
out of account.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import gbnf_to_lark

from appliance.errors import BadRequest, ConstraintFailed, DecodeFailed
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.calls.syntax import Tool
from appliance.text.endless_rules import endless_rule
from appliance.text.lark import JSON_BLANKS, Lark, either
from appliance.text.schema_bounds import bounded

MAX_GRAMMAR_CHARS = 64 << 10
MAX_SCHEMA_CHARS = 256 << 10
_MAX_REASON_CHARS = 600
_FORM = "form"
_JSON = json.JSONDecoder()
_JSON_IN_LARK = re.compile(r"%json[ \t\r\n]*")
_CANNOT_BE_USED = "The constraint on the answer cannot be used"
_SILENT = 0  # llguidance's log level: whoever sent a grammar gets what is wrong with it
# Of llguidance's words in the middle of an answer, those for a fault of ours: all others
# say that a bound is reached, or that nothing can follow.
_OUR_FAULT = re.compile("doesn't satisfy the grammar|parser stopped in|panic", re.IGNORECASE)

_NAMES = {
    GrammarKind.JSON_SCHEMA: "JSON schema",
    GrammarKind.REGEX: "regular expression",
    GrammarKind.LARK: "Lark grammar",
    GrammarKind.GBNF: "GBNF grammar",
    GrammarKind.CHOICE: "list of choices",
}


@dataclass(frozen=True, kw_only=True)
class TokenTexts:
    """A vocabulary as grammars see it."""

    texts: Sequence[bytes]  # each token's; its name where it is special and has no text
    special: Sequence[int]
    end_tokens: Sequence[int]
    bos: int | None
    # of text within an answer, so without a space that the vocabulary puts in front of one
    tokenize: Callable[[bytes], list[int]]

    def control_tokens(self, marks: Sequence[str]) -> dict[str, int]:
        """The special tokens that occur in `marks`, by their names."""
        names = {
            self.texts[token].decode("utf-8", errors="replace"): token for token in self.special
        }
        return {
            name: token
            for name, token in names.items()
            if name and any(name in mark for mark in marks)
        }


@dataclass(frozen=True, kw_only=True)
class AnswerGrammar:
    """What an answer in a model's own format keeps to:
    text of a form, calls of `tools`, or either.
    """

    form: AnswerFormat
    opening: Opening  # the answer's from here on
    text: tuple[GrammarKind, str] | None = None  # the text's form
    tools: Sequence[Tool] = ()
    several: bool = False  # more than one call is allowed
    is_free: bool = False  # any text is allowed too, or nothing but text


class _Wrapped:
    """The vocabulary under the names that llguidance asks for."""

    def __init__(self, vocabulary: TokenTexts) -> None:
        self.eos_token_id = vocabulary.end_tokens[0]
        self.bos_token_id = vocabulary.bos
        self.tokens = vocabulary.texts
        self.special_token_ids = vocabulary.special
        self._tokenize = vocabulary.tokenize

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenize(text)


class Grammars:
    """Compiles grammars for one vocabulary.

    Making it takes a quarter of a second and 34 MiB for 128,000 tokens.
    """

    def __init__(self, vocabulary: TokenTexts) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = LLTokenizer(
            TokenizerWrapper(_Wrapped(vocabulary)), eos_token=list(vocabulary.end_tokens)
        )
        self._limits = _limits()

    def compile(self, kind: GrammarKind, source: str) -> GrammarConstraint:
        """Raises `BadRequest` with the compiler's words on what is no grammar, allows
        nothing, or is too large.

        Needs some hundred MiB of stack for what is nested deeply.
        """
        return self._compile(_checked(kind, source))

    def compile_answer(self, wanted: AnswerGrammar) -> GrammarConstraint:
        """Of answers as a model writes them: with reasoning, text of a form, calls.

        Raises as `compile` does.
        """
        form, opening = wanted.form, wanted.opening
        tools = [Tool(tool.name, _bounded_object(tool.parameters)) for tool in wanted.tools]
        lark = Lark(self._vocabulary.control_tokens(form.marks))
        inner: list[dict[str, object]] = []
        answers = []
        if wanted.text is not None:
            inner = _grammars_of(_checked(*wanted.text))
            inner[0]["name"] = _FORM
            answers.append(form.lark_text(lark, opening, f"@{_FORM}"))
        if tools:
            write = form.lark_any if wanted.is_free else form.lark_calls
            answers.append(write(lark, opening, tools, several=wanted.several))
        around = lark.source(either(answers))
        return self._compile(json.dumps({"grammars": [{"lark_grammar": around}, *inner]}))

    def _compile(self, grammar: str) -> GrammarConstraint:
        matcher = LLMatcher(self._tokenizer, grammar, log_level=_SILENT, limits=self._limits)
        if matcher.is_error():
            raise BadRequest(f"{_CANNOT_BE_USED}: {_reason(matcher)}")
        constraint = GrammarConstraint(matcher)
        try:
            # what fails at the first token is refused before anything is computed
            constraint.mask()
        except ConstraintFailed as error:
            raise BadRequest(f"{_CANNOT_BE_USED}: {_reason(matcher)}") from error
        return constraint


class GrammarConstraint:
    """One answer's way through a grammar; implements
    `appliance.engine.constraint.Constraint`.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def mask(self) -> bytes:
        mask = self._matcher.compute_bitmask()
        if not self._matcher.is_error():
            return mask
        reason = _reason(self._matcher)
        if _OUR_FAULT.search(reason):
            raise DecodeFailed(f"Which tokens may come next could not be computed: {reason}")
        raise ConstraintFailed(f"The constraint on the answer cannot be met: {reason}")

    def accept(self, token: int) -> None:
        if self._matcher.consume_token(token):
            return
        reason = _reason(self._matcher)
        if _OUR_FAULT.search(reason):  # it is one of the mask's, so the grammar is not wrong
            raise DecodeFailed(
                f"Token {token} was allowed by the constraint on the answer, and then refused by "
                f"it: {reason}"
            )
        raise ConstraintFailed(f"The constraint on the answer cannot be met: {reason}")


def _limits() -> LLParserLimits:
    """Bounds on work, not on what people send: a refusal takes under a second, the
    largest mask some ms.
    """
    return LLParserLimits(
        max_items_in_row=10_000,  # an object with `MAX_PROPERTIES` optional ones has 8,000
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=100_000,
        max_lexer_states=30_000,
        max_grammar_size=500_000,
        verbose_errors=False,
    )


def _checked(kind: GrammarKind, source: str) -> str:
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
    return _to_llguidance(kind, source)


def _to_llguidance(kind: GrammarKind, source: str) -> str:
    if kind is GrammarKind.JSON_SCHEMA:
        return _schema_to_llguidance(source)
    if kind is GrammarKind.CHOICE:
        return LLMatcher.grammar_from_lark(
            "start: " + " | ".join(json.dumps(text) for text in json.loads(source))
        )
    if kind is GrammarKind.REGEX:
        return LLMatcher.grammar_from_regex(source)
    if kind is GrammarKind.LARK:
        _check_ends(source)
        return LLMatcher.grammar_from_lark(_bounded_lark(source))
    try:
        lark = gbnf_to_lark(source)
    except Exception as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"The grammar is not valid GBNF: {reason[:_MAX_REASON_CHARS]}") from error
    _check_ends(lark, has_lines=False)
    return LLMatcher.grammar_from_lark(_bounded_lark(lark))


def _check_ends(lark: str, *, has_lines: bool = True) -> None:
    rule = endless_rule(lark)
    if rule is None:
        return
    place = f" (line {rule.line})" if has_lines else ""
    raise BadRequest(
        f"The grammar's rule {rule.name!r}{place} has no end: no text at all matches it, because "
        "each of its alternatives leads to itself again. Add an alternative that does not."
    )


def _grammars_of(written: str) -> list[dict[str, object]]:
    """llguidance's form of a grammar as a list of which the first is the whole; plain
    Lark is left as text by it.
    """
    if not written.startswith("{"):
        return [{"lark_grammar": written}]
    grammars: list[dict[str, object]] = json.loads(written)["grammars"]
    return grammars


def _schema_to_llguidance(source: str) -> str:
    try:
        schema = json.dumps(bounded(json.loads(source)))
        return LLMatcher.grammar_from_json_schema(
            schema, overrides={"whitespace_pattern": JSON_BLANKS}
        )
    except RecursionError as error:
        raise BadRequest("The JSON schema is nested too deeply.") from error
    except ValueError as error:
        reason = str(error)[:_MAX_REASON_CHARS]
        raise BadRequest(f"The JSON schema is not valid: {reason}") from error


def _bounded_lark(source: str) -> str:
    """With every schema in it bounded. Raises `BadRequest`."""
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
        except ValueError:  # it stands in a literal or a comment, or llguidance says what is wrong
            continue
        pieces += [source[at : found.end()], json.dumps(bounded(schema))]
        at = end
    return "".join([*pieces, source[at:]])


def _bounded_object(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    result = bounded(dict(schema))
    assert isinstance(result, dict), "it was one"
    return result


def _reason(matcher: LLMatcher) -> str:
    """In llguidance's words, but for the commonest."""
    reason = matcher.get_error().strip()
    if reason.startswith("NoExtension"):
        return "no text at all matches it"
    if "limits." in reason:
        return "it is too complex"
    return reason if len(reason) <= _MAX_REASON_CHARS else reason[:_MAX_REASON_CHARS] + " ..."
