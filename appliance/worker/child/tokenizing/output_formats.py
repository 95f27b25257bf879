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
from appliance.text.chats.model_chat import RenderedChat
from appliance.text.reasoning_budget import ReasoningBudget
from appliance.worker.child.tokenizing.forced_text import forced_text, tokens_within
from appliance.worker.child.tokenizing.grammars import LazyGrammars
from appliance.worker.child.tokenizing.prompts import PromptVocabulary

if TYPE_CHECKING:
    from appliance.text.grammar import GrammarConstraint
# keywords of a schema that say which other properties there may be
_OPENING = frozenset(
    {
        "additionalProperties",
        "patternProperties",
        "unevaluatedProperties",
        "propertyNames",
        "$ref",
        "allOf",
        "anyOf",
        "oneOf",
    }
)


@dataclass(frozen=True)
class OutputFormat:
    """Of one request's output."""

    parser: AnswerParser | None = None  # tells its parts apart; None: it is plain text
    constraint: Constraint | None = None  # what it keeps to
    unenforced: Sequence[str] = ()  # places in its schemas that it may not keep to
    end_of_turn: str = ""  # ends it as an end token does: a text, or a special token's name


PLAIN_TEXT = OutputFormat()


class OutputFormats:
    """For one model."""

    def __init__(
        self, vocabulary: PromptVocabulary, grammars: LazyGrammars, end_of_turn: str = ""
    ) -> None:
        self._vocabulary = vocabulary
        self._forced = forced_text(vocabulary)
        self._grammars = grammars
        self._end_of_turn = end_of_turn

    def prepare(self, request: GenerateRequest, rendered: RenderedChat | None) -> OutputFormat:
        """`rendered` is the prompt where it is a chat. Raises `BadRequest`."""
        prompt = request.prompt
        if rendered is None or not isinstance(prompt, ChatPrompt):
            plain = None if request.grammar is None else self._grammars.compile(request.grammar)
            return OutputFormat(constraint=plain, unenforced=plain.unenforced if plain else ())
        form = rendered.form
        opening = form.opening(
            rendered.text, prompt.messages[-1]["content"] if prompt.continue_final_message else None
        )
        tools = [
            _tool(tool, request.tool_calls, is_closed=rendered.keeps_calls)
            for tool in prompt.tools or []
        ]
        is_read = bool(tools) or not form.is_plain
        parser = (
            AnswerParser(form, {tool.name: tool for tool in tools}, opening) if is_read else None
        )
        compiled = self._constraint(request, rendered, opening, tools)
        constraint: Constraint | None = compiled
        is_bound = form.can_reason or not request.may_lack_reasoning
        if request.max_reasoning_tokens is not None and is_bound:
            constraint = self._bounded(
                form, request.max_reasoning_tokens, opening, constraint, may_call=bool(tools)
            )
        # what is bound to a form ends where that does, and whatever it says is text
        ends_itself = request.sampling.ignore_eos or request.grammar is not None
        return OutputFormat(
            parser,
            constraint,
            unenforced=compiled.unenforced if compiled else (),
            end_of_turn="" if ends_itself else self._end_of_turn,
        )

    def _constraint(
        self, request: GenerateRequest, rendered: RenderedChat, opening: Opening, tools: list[Tool]
    ) -> GrammarConstraint | None:
        rules, form = request.tool_calls, rendered.form
        called = [tool for tool in tools if rules.only in (None, tool.name)]
        if rules.is_required and called:
            return self._grammars.compile_answer(
                form, opening, None, called, several=rules.several, is_free=False
            )
        keeps_calls = bool(tools) and (rules.is_strict or rendered.keeps_calls)
        if request.grammar is None and not keeps_calls:
            return None
        return self._grammars.compile_answer(
            form,
            opening,
            request.grammar,
            tools,
            several=rules.several,
            is_free=request.grammar is None,
        )

    def _bounded(
        self,
        form: AnswerFormat,
        max_tokens: int,
        opening: Opening,
        inner: Constraint | None,
        *,
        may_call: bool,
    ) -> Constraint | None:
        vocabulary = self._vocabulary
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


def _tool(written: dict[str, Any], rules: ToolCallRules, *, is_closed: bool) -> Tool:
    """`is_closed`: where its schema leaves it open, there are no other parameters. A model
    that was not trained to call functions makes them up.
    """
    function = written["function"]
    name, parameters = function["name"], function.get("parameters") or {}
    if is_closed and not _OPENING.intersection(parameters):
        parameters = {**parameters, "additionalProperties": False}
    return Tool(name, parameters, name in rules.strict_names)
