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

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from appliance.errors import BadRequest, ConstraintFailed, DecodeFailed
from appliance.protocol.grammar_kind import GrammarKind
from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.calls.syntax import Tool
from appliance.text.lark import Lark, either
from appliance.text.schema.translation import EXACT, Loosening
from appliance.text.written_grammar import (
    MAX_REASON_CHARS,
    SentSchemas,
    WrittenGrammar,
    grammars_of,
    written_grammar,
)

_FORM = "form"
_CANNOT_BE_USED = "The constraint on the answer cannot be used"
_SILENT = 0  # llguidance's log level: whoever sent a grammar gets what is wrong with it
# Of llguidance's words in the middle of an answer, those for a fault of ours: all others
# say that a bound is reached, or that nothing can follow.
_OUR_FAULT = re.compile("doesn't satisfy the grammar|parser stopped in|panic", re.IGNORECASE)

# What the compiler says of a schema that it understands and cannot keep an answer to, and
# the keywords that are left to the model then.
_TOO_HARD: Mapping[str, frozenset[str]] = {
    "min/maxProperties only supported": frozenset({"minProperties", "maxProperties"}),
    "patternProperty regexes": frozenset({"patternProperties"}),
    "circular references with sibling keys": frozenset({"$ref"}),
    "'multipleOf' has too many digits": frozenset({"multipleOf"}),
    "Unable to determine if regex is empty": frozenset({"minLength", "maxLength"}),
    "regex parse error|not supported yet": frozenset({"pattern"}),  # only those that it refuses
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
    is_strict: bool = False  # what cannot be kept to of `text` is refused


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

    def compile(
        self, kind: GrammarKind, source: str, *, is_strict: bool = False
    ) -> GrammarConstraint:
        """What of a JSON schema cannot be kept to is named by the result, or refused if
        `is_strict`.

        Raises `BadRequest` with the compiler's words on what is no grammar, allows
        nothing, or is too large.

        Needs some hundred MiB of stack for what is nested deeply.
        """
        return self._compile(
            lambda loosening: written_grammar(
                kind, source, SentSchemas(loosening, is_strict=is_strict)
            )
        )

    def compile_answer(self, wanted: AnswerGrammar) -> GrammarConstraint:
        """Of answers as a model writes them: with reasoning, text of a form, calls.

        Raises as `compile` does.
        """
        return self._compile(lambda loosening: self._written_answer(wanted, loosening))

    def _written_answer(self, wanted: AnswerGrammar, loosening: Loosening) -> WrittenGrammar:
        form, opening = wanted.form, wanted.opening
        schemas = SentSchemas(loosening, is_strict=wanted.is_strict)
        tools = [schemas.enforced_tool(tool) for tool in wanted.tools]
        lark = Lark(self._vocabulary.control_tokens(form.marks))
        inner: list[dict[str, object]] = []
        answers = []
        if wanted.text is not None:
            inner = grammars_of(written_grammar(*wanted.text, schemas).grammar)
            inner[0]["name"] = _FORM
            answers.append(form.lark_text(lark, opening, f"@{_FORM}"))
        if tools:
            write = form.lark_any if wanted.is_free else form.lark_calls
            answers.append(write(lark, opening, tools, several=wanted.several))
        around = lark.source(either(answers))
        grammar = json.dumps({"grammars": [{"lark_grammar": around}, *inner]})
        return WrittenGrammar(grammar, tuple(schemas.unenforced))

    def _compile(self, write: Callable[[Loosening], WrittenGrammar]) -> GrammarConstraint:
        loosening = EXACT
        while True:
            written = write(loosening)
            try:
                matcher = self._matcher(written.grammar)
            except BadRequest as error:
                looser = self._looser(loosening, error.message)
                if looser is None:
                    raise
                loosening = looser
            else:
                return GrammarConstraint(matcher, written.unenforced)

    def _looser(self, loosening: Loosening, reason: str) -> Loosening | None:
        """Where it is the compiler that cannot do what a schema asks for."""
        keywords = next((them for said, them in _TOO_HARD.items() if re.search(said, reason)), None)
        if keywords is None or keywords <= loosening.keywords:
            return None
        return Loosening(loosening.keywords | keywords, self._can_match)

    def _can_match(self, pattern: str) -> bool:
        schema = {"type": "string", "pattern": pattern}
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        return not self._raw_matcher(grammar).is_error()

    def _matcher(self, grammar: str) -> LLMatcher:
        matcher = self._raw_matcher(grammar)
        if matcher.is_error():
            raise BadRequest(f"{_CANNOT_BE_USED}: {_reason(matcher)}")
        try:
            # what fails at the first token is refused before anything is computed
            GrammarConstraint(matcher).mask()
        except ConstraintFailed as error:
            raise BadRequest(f"{_CANNOT_BE_USED}: {_reason(matcher)}") from error
        return matcher

    def _raw_matcher(self, grammar: str) -> LLMatcher:
        return LLMatcher(self._tokenizer, grammar, log_level=_SILENT, limits=self._limits)


class GrammarConstraint:
    """One answer's way through a grammar; implements
    `appliance.engine.constraint.Constraint`.
    """

    def __init__(self, matcher: LLMatcher, unenforced: Sequence[str] = ()) -> None:
        """`unenforced` are the places of what is left to the model."""
        self.unenforced = tuple(unenforced)
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


def _reason(matcher: LLMatcher) -> str:
    """In llguidance's words, but for the commonest."""
    reason = matcher.get_error().strip()
    if reason.startswith("NoExtension"):
        return "no text at all matches it"
    if "limits." in reason:
        return "it is too complex"
    return reason if len(reason) <= MAX_REASON_CHARS else reason[:MAX_REASON_CHARS] + " ..."
