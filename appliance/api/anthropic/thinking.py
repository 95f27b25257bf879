"""Whether a response thinks and whether its client sees it, under Anthropic's names.

Knows no template.

Sources: https://docs.claude.com/en/docs/build-with-claude/extended-thinking and
https://docs.claude.com/en/docs/build-with-claude/effort
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from appliance.api.fields.neutral import Hint
from appliance.api.fields.reasoning import ReasoningFields, ThinkingSwitch
from appliance.api.fields.request import LabelledModel
from appliance.api.fields.structured import JsonSchema, schema_grammar
from appliance.protocol.requests import Grammar

_SWITCHES = ("enable_thinking", "thinking")  # what templates call it
_LEVELS = {"xhigh": "high", "max": "high"}  # templates know three


class ShownThinking(ThinkingSwitch):
    display: Literal["summarized", "omitted"] | None = None  # nothing is summarized here


class OutputFormat(LabelledModel):
    type: Literal["json_schema"]
    schema_: Annotated[JsonSchema, Field(alias="schema")]


class OutputConfig(LabelledModel):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None
    task_budget: Hint = None


class OutputFields(ReasoningFields):
    """A client that does not ask for thinking has no place for it: the template's switch
    is turned off, and what a model without one thinks all the same is not shown.

    A model that cannot think answers without: to be allowed to think is no obligation.
    """

    thinking: ShownThinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # its older place

    @property
    def shows_thinking(self) -> bool:
        if self.thinking is not None:
            return self.thinking.type != "disabled"
        return self.think not in (None, False, "none") or self.enable_thinking is True

    @property
    def omits_thinking(self) -> bool:
        """Its blocks are there, but empty."""
        return self.thinking is not None and self.thinking.display == "omitted"

    def arguments(self) -> dict[str, Any]:
        """Those of the template. `adaptive`: it is as the model has it."""
        is_given = self.thinking is None or self.thinking.type in ("enabled", "disabled")
        switches = dict.fromkeys(_SWITCHES, self.shows_thinking) if is_given else {}
        effort = None if self.output_config is None else self.output_config.effort
        level = {} if effort is None else {"reasoning_effort": _LEVELS.get(effort, effort)}
        return {**switches, **level, **self.template_arguments()}

    def grammar_of_answer(self) -> Grammar | None:
        if self.output_config is not None and self.output_config.format is not None:
            schema = self.output_config.format.schema_
            return schema_grammar(schema, "output_config.format.schema")
        if self.output_format is not None:
            return schema_grammar(self.output_format.schema_, "output_format.schema")
        return None
