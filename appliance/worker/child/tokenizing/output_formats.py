"""How the output of a request is read, and what it keeps to,
as this model writes its answers.

Knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.engine.constraint import Constraint
from appliance.errors import BadRequest
from appliance.protocol.requests import ChatPrompt, GenerateRequest, ToolCallRules
from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.answer_parser import AnswerParser
from appliance.text.calls.syntax import Tool
from appliance.text.reasoning_budget import ReasoningBudget
from appliance.worker.child.tokenizing.forced_text import forced_text, tokens_within
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from appliance.worker.child.tokenizing.prompts import PromptVocabulary

if TYPE_CHECKING:
    from appliance.text.grammar import GrammarConstraint


@dataclass(frozen=True)
class OutputFormat:
    """Of one request's output."""

    parser: AnswerParser | None = None  # tells its parts apart; None: it is plain text
    constraint: Constraint | None = None  # what it keeps to
    unenforced: Sequence[str] = ()  # places in its schemas that it may not keep to


PLAIN_TEXT = OutputFormat()


class OutputFormats:
    """For one model, which writes its answers in `answer_format`."""

    def __init__(
        self, vocabulary: PromptVocabulary, answer_format: AnswerFormat, grammars: LazyGrammars
    ) -> None:
        self._vocabulary = vocabulary
        self._forced = forced_text(vocabulary)
        self._answer_format = answer_format
        self._grammars = grammars

    def prepare(self, request: GenerateRequest, rendered: str | None) -> OutputFormat:
        """`rendered` is the prompt as text where it is a chat. Raises `BadRequest`."""
        prompt = request.prompt
        if rendered is None or not isinstance(prompt, ChatPrompt):
            plain = None if request.grammar is None else self._grammars.compile(request.grammar)
            return OutputFormat(constraint=plain, unenforced=plain.unenforced if plain else ())
        opening = self._answer_format.opening(
            rendered, prompt.messages[-1]["content"] if prompt.continue_final_message else None
        )
        tools = [_tool(tool, request.tool_calls) for tool in prompt.tools or []]
        is_read = bool(tools) or not self._answer_format.is_plain
        parser = (
            AnswerParser(self._answer_format, {tool.name: tool for tool in tools}, opening)
            if is_read
            else None
        )
        compiled = self._constraint(request, opening, tools)
        constraint: Constraint | None = compiled
        if request.max_reasoning_tokens is not None:
            constraint = self._bounded(
                request.max_reasoning_tokens, opening, constraint, may_call=bool(tools)
            )
        return OutputFormat(parser, constraint, compiled.unenforced if compiled else ())

    def _constraint(
        self, request: GenerateRequest, opening: Opening, tools: list[Tool]
    ) -> GrammarConstraint | None:
        rules = request.tool_calls
        called = [tool for tool in tools if rules.only in (None, tool.name)]
        if rules.is_required and called:
            return self._grammars.compile_answer(
                self._answer_format, opening, None, called, several=rules.several, is_free=False
            )
        if request.grammar is None and not (rules.is_strict and tools):
            return None
        return self._grammars.compile_answer(
            self._answer_format,
            opening,
            request.grammar,
            tools,
            several=rules.several,
            is_free=request.grammar is None,
        )

    def _bounded(
        self, max_tokens: int, opening: Opening, inner: Constraint | None, *, may_call: bool
    ) -> Constraint | None:
        form, vocabulary = self._answer_format, self._vocabulary
        if not form.can_reason:
            raise BadRequest(
                "This model does not reason. Leave out the limit on its reasoning.",
                param="reasoning_budget",
            )
        if opening is Opening.ANSWERING:
            return inner
        return ReasoningBudget(
            max_tokens,
            marks=(form.begin_of_reasoning, form.end_of_reasoning),
            end_tokens=tokens_within(vocabulary, self._forced, form.forced_end(may_call=may_call)),
            text=self._text,
            num_vocab=vocabulary.num_vocab,
            is_open=opening is Opening.REASONING,
            inner=inner,
        )

    def _text(self, token: int) -> bytes:
        return self._vocabulary.piece(token) or self._vocabulary.text_of(token).encode("utf-8")


def _tool(written: dict[str, Any], rules: ToolCallRules) -> Tool:
    function = written["function"]
    name = function["name"]
    return Tool(name, function.get("parameters") or {}, name in rules.strict_names)
