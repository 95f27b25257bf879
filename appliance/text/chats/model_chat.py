"""How one chat template is talked through: what it is given, and how answers to it are written.

Knows no tokens, and not which of a model's templates it is.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from collections.abc import Sequence
from typing import Any

from appliance.errors import BadRequest
from appliance.protocol.requests import ChatPrompt
from appliance.text.answer_format import AnswerFormat
from appliance.text.answer_formats import format_of
from appliance.text.call_history import CallHistory
from appliance.text.calls.syntax import CallSyntax
from appliance.text.chat_template import MAX_CPU_S, ChatTemplate
from appliance.text.chats.generic_tools import (
    GENERIC_CALLS,
    Message,
    can_write,
    in_words,
    with_described_tools,
    with_written_calls,
)
from appliance.text.marked_format import MarkedFormat
from appliance.text.reasoning_effort import effort_arguments

_TOOL_VARIABLES = ("tools", "xml_tools")  # a list of functions, under the name that is read
# Firefunction's, as text: https://huggingface.co/fireworks-ai/llama-3-firefunction-v2
_FUNCTIONS_AS_TEXT = "functions"
_MOMENT = "datetime"
_AS_MOMENT = "%Y-%m-%d %H:%M:%S"


class ToolUse(enum.Enum):
    """How a model is shown functions."""

    NATIVE = "native"  # by its template
    GENERIC = "generic"  # by us, in the messages
    NONE = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderedChat:
    """A conversation as text, and what comes behind it."""

    text: str
    form: AnswerFormat  # how the answer is written
    # Calls keep to their form and schema in any case: the model was not trained to write
    # them so.
    keeps_calls: bool = False


class ModelChat:
    """`tools` is what was set: `native`, `generic` or `auto`, which is native where the
    template shows functions.
    """

    def __init__(self, template: ChatTemplate, source: str, tools: str) -> None:
        self.template = template
        self._history = CallHistory(template)
        self.form = format_of(source)  # of answers without functions
        variables = template.variables
        self._variable = next((name for name in _TOOL_VARIABLES if name in variables), "")
        self._has_text_variable = not self._variable and _FUNCTIONS_AS_TEXT in variables
        self.tool_use = self._how_tools_are_shown(tools)

    def _how_tools_are_shown(self, tools: str) -> ToolUse:
        is_marked = isinstance(self.form, MarkedFormat)  # in others, calls are part of the whole
        if (self._variable or self._has_text_variable) and (tools != "generic" or not is_marked):
            return ToolUse.NATIVE
        return ToolUse.GENERIC if tools != "native" and is_marked else ToolUse.NONE

    def render(self, prompt: ChatPrompt, cpu_s: float = MAX_CPU_S) -> RenderedChat:
        """Raises `TemplateFailed`, and `BadRequest` for what the model cannot be shown."""
        if prompt.tools and self.tool_use is ToolUse.NONE:
            raise BadRequest(
                "This model's chat template does not support functions. Describe them in a "
                "message, serve the model with --tools auto, or use one that was trained to call "
                "functions.",
                param="tools",
            )
        if self.tool_use is ToolUse.GENERIC:
            return self._render_generic(prompt, cpu_s)
        text = self._rendered(self._with_shown_calls(prompt), prompt.tools, prompt, cpu_s)
        return RenderedChat(text=text, form=self.form)

    def _with_shown_calls(self, prompt: ChatPrompt) -> Sequence[Message]:
        """A template may show functions, and leave out earlier calls (LFM2's, Granite 3.3's):
        they are part of the text then.
        """
        messages: Sequence[Message] = prompt.messages
        if self.tool_use is not ToolUse.NATIVE or not isinstance(self.form, MarkedFormat):
            return messages
        has_calls = any(message.get("tool_calls") for message in messages)
        known = [syntax for syntax in self.form.calls if can_write(syntax)]
        if not has_calls or not known or self._history.shows_calls:
            return messages
        try:
            return with_written_calls(messages, known[0])
        except ValueError as error:
            raise _cannot_show(error) from error

    def _render_generic(self, prompt: ChatPrompt, cpu_s: float) -> RenderedChat:
        calls = self._own_calls
        messages: Sequence[Message] = prompt.messages
        if calls is GENERIC_CALLS:
            messages = in_words(messages)
        if prompt.tools:
            messages = with_described_tools(messages, prompt.tools, calls)
        return RenderedChat(
            text=self._rendered(messages, None, prompt, cpu_s),
            form=self._form_with(calls),
            keeps_calls=bool(prompt.tools),
        )

    def _rendered(
        self,
        messages: Sequence[Message],
        tools: list[dict[str, Any]] | None,
        prompt: ChatPrompt,
        cpu_s: float,
    ) -> str:
        return self.template.render(
            self._fitted(messages),
            tools=tools,
            arguments={**self._arguments(prompt), **prompt.arguments},
            continue_final_message=prompt.continue_final_message,
            cpu_s=cpu_s,
        )

    @functools.cached_property
    def _own_calls(self) -> CallSyntax:
        """The form in which a model writes calls that its template does not tell it to write.

        Its own where the template shows calls that were made (DeepSeek V3.1's).
        """
        known = self.form.calls if isinstance(self.form, MarkedFormat) else ()
        is_known = bool(known) and can_write(known[0]) and self._history.shows_calls
        return known[0] if is_known else GENERIC_CALLS

    def _form_with(self, calls: CallSyntax) -> AnswerFormat:
        assert isinstance(self.form, MarkedFormat), "only then are functions shown by us"
        return dataclasses.replace(self.form, calls=(calls,))

    def _arguments(self, prompt: ChatPrompt) -> dict[str, Any]:
        variables = self.template.variables
        arguments = effort_arguments(
            prompt.reasoning_effort, variables, can_reason=self.form.can_reason
        )
        if self.tool_use is ToolUse.NATIVE and self._variable not in ("", "tools"):
            arguments[self._variable] = prompt.tools
        if self._has_text_variable:
            functions = [tool["function"] for tool in prompt.tools or ()]
            arguments[_FUNCTIONS_AS_TEXT] = json.dumps(functions, indent=4) if functions else ""
        if self._has_text_variable and _MOMENT in variables:
            arguments[_MOMENT] = self.template.now().strftime(_AS_MOMENT)
        return arguments

    def _fitted(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        try:
            return self._history.fitted(messages)
        except ValueError as error:
            raise _cannot_show(error) from error


def _cannot_show(error: Exception) -> BadRequest:
    return BadRequest(f"The chat template cannot show these messages: {error}", param="messages")
