"""JSON schemas, regular expressions, Lark and GBNF as masks of tokens, by llguidance.

Knows no model and no sampling.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. Whatever
somebody sends is either compiled within the bounds here or refused; it is never left
out of account.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.gbnf_to_lark import gbnf_to_lark

from appliance.errors import BadRequest, ConstraintFailed
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.calls.syntax import Tool
from appliance.text.lark import JSON_BLANKS, Lark, either

MAX_GRAMMAR_CHARS = 64 << 10
MAX_SCHEMA_CHARS = 256 << 10
MAX_PROPERTIES = 2000  # of one object
MAX_DIVISOR = 10_000
_MAX_REASON_CHARS = 600
_FORM = "form"
_CANNOT_BE_USED = "The constraint on the answer cannot be used"
_SILENT = 0  # llguidance's log level: whoever sent a grammar gets what is wrong with it


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
        form, opening, tools = wanted.form, wanted.opening, wanted.tools
        lark = Lark(self._vocabulary.control_tokens(form.marks))
        inner: list[dict[str, object]] = []
        answers = []
        if wanted.text is not None:
            inner = _grammars_of(_checked(*wanted.text))
            inner[0]["name"] = _FORM
            answers.append(form.lark_text(lark, opening, f"@{_FORM}"))
        if tools:
            for tool in tools:
                _check_costs(tool.parameters)
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
        if self._matcher.is_error():
            raise ConstraintFailed(
                f"The constraint on the answer cannot be met: {_reason(self._matcher)}"
            )
        return mask

    def accept(self, token: int) -> None:
        if not self._matcher.consume_token(token):
            raise ConstraintFailed(f"The answer violates its constraint: {_reason(self._matcher)}")


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
        return LLMatcher.grammar_from_lark(source)
    try:
        return LLMatcher.grammar_from_lark(gbnf_to_lark(source))
    except Exception as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BadRequest(f"The grammar is not valid GBNF: {reason[:_MAX_REASON_CHARS]}") from error


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
        _check_costs(json.loads(source))
        return LLMatcher.grammar_from_json_schema(
            source, overrides={"whitespace_pattern": JSON_BLANKS}
        )
    except RecursionError as error:
        raise BadRequest("The JSON schema is nested too deeply.") from error
    except ValueError as error:
        reason = str(error)[:_MAX_REASON_CHARS]
        raise BadRequest(f"The JSON schema is not valid: {reason}") from error


def _check_costs(schema: object) -> None:
    """What llguidance itself does not bound: an object costs the square of its
    properties, a divisor its own size.
    """
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            _check_object(part)
            parts += part.values()
        elif isinstance(part, list):
            parts += part


def _check_object(part: dict[str, object]) -> None:
    properties, divisor = part.get("properties"), part.get("multipleOf")
    if isinstance(properties, dict) and len(properties) > MAX_PROPERTIES:
        raise BadRequest(
            f"An object in the JSON schema has {len(properties)} properties; at most "
            f"{MAX_PROPERTIES} are allowed."
        )
    if isinstance(divisor, int | float) and _num_remainders(divisor) > MAX_DIVISOR:
        raise BadRequest(
            f"'multipleOf' is {divisor}; without the decimal point it must be at most "
            f"{MAX_DIVISOR}."
        )


def _num_remainders(divisor: float) -> int:
    """Its digits as a whole number: so many remainders are distinguished."""
    number = Decimal(repr(divisor))
    return (
        int(number.scaleb(-min(int(number.as_tuple().exponent), 0)))
        if number.is_finite()
        else MAX_DIVISOR + 1
    )


def _reason(matcher: LLMatcher) -> str:
    """In llguidance's words, but for the commonest."""
    reason = matcher.get_error().strip()
    if reason.startswith("NoExtension"):
        return "no text at all matches it"
    if "limits." in reason:
        return "it is too complex"
    return reason if len(reason) <= _MAX_REASON_CHARS else reason[:_MAX_REASON_CHARS] + " ..."
