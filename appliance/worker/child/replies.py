"""How answers to a request are read, and what they keep to, in the way that this model writes them.

Knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.engine.constraint import Constraint
from appliance.errors import BadRequest
from appliance.protocol.requests import ChatPrompt, GenerateRequest
from appliance.text.answer_format import AnswerFormat, Opening
from appliance.text.answer_parser import AnswerParser
from appliance.text.calls.syntax import Tool
from appliance.text.reasoning_budget import ReasoningBudget
from appliance.worker.child.grammars import LazyGrammars
from appliance.worker.child.prompts import Vocabulary


@dataclass(frozen=True)
class Reply:
    """What a request's answer is read with, where it is not just text, and what it keeps to."""

    parser: AnswerParser | None = None
    constraint: Constraint | None = None


PLAIN = Reply()


class Replies:
    """For one model, which writes its answers in the format `form`."""

    def __init__(self, vocabulary: Vocabulary, form: AnswerFormat, grammars: LazyGrammars) -> None:
        self._vocabulary = vocabulary
        self._form = form
        self._grammars = grammars

    def prepare(self, request: GenerateRequest, rendered: str | None) -> Reply:
        """`rendered` is the prompt as text where it is a chat. Raises `BadRequest`."""
        prompt = request.prompt
        if rendered is None or not isinstance(prompt, ChatPrompt):
            return Reply(
                constraint=None
                if request.grammar is None
                else self._grammars.compile(request.grammar)
            )
        opening = self._form.opening(
            rendered, prompt.messages[-1]["content"] if prompt.continue_final_message else None
        )
        tools = [_tool(tool) for tool in prompt.tools or []]
        is_read = bool(tools) or not self._form.is_plain
        parser = (
            AnswerParser(self._form, {tool.name: tool for tool in tools}, opening)
            if is_read
            else None
        )
        constraint = self._constraint(request, opening, tools)
        if request.max_reasoning_tokens is not None:
            constraint = self._bounded(
                request.max_reasoning_tokens, opening, constraint, may_call=bool(tools)
            )
        return Reply(parser, constraint)

    def _constraint(
        self, request: GenerateRequest, opening: Opening, tools: list[Tool]
    ) -> Constraint | None:
        rules = request.tool_calls
        called = [tool for tool in tools if rules.only in (None, tool.name)]
        if rules.is_required and called:
            return self._grammars.compile_answer(
                self._form, opening, None, called, several=rules.several, is_free=False
            )
        if request.grammar is None and not (rules.is_strict and tools):
            return None
        return self._grammars.compile_answer(
            self._form,
            opening,
            request.grammar,
            tools,
            several=rules.several,
            is_free=request.grammar is None,
        )

    def _bounded(
        self, max_tokens: int, opening: Opening, inner: Constraint | None, *, may_call: bool
    ) -> Constraint | None:
        form, vocabulary = self._form, self._vocabulary
        if not form.can_reason:
            raise BadRequest("This model does not reason: leave it out.", param="reasoning_budget")
        if opening is Opening.ANSWERING:
            return inner
        return ReasoningBudget(
            max_tokens,
            (form.begin_of_reasoning, form.end_of_reasoning),
            vocabulary.tokenize(form.forced_end(may_call=may_call), parse_special=True),
            self._text,
            vocabulary.num_vocab,
            is_open=opening is Opening.REASONING,
            inner=inner,
        )

    def _text(self, token: int) -> bytes:
        return self._vocabulary.piece(token) or self._vocabulary.text_of(token).encode("utf-8")


def _tool(written: dict[str, Any]) -> Tool:
    function = written["function"]
    return Tool(function["name"], function.get("parameters") or {})
