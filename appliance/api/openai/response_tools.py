"""Functions in the shape of /v1/responses, which is flatter than that of chats. Knows no items and no answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from appliance.api.openai.parameters import Only
from appliance.api.openai.request import RequestModel
from appliance.api.openai.tools import MAX_TOOLS, Choice, Function, FunctionName, choose, functions_only, rules_of
from appliance.worker.messages import CallRules


class _Kind(RequestModel):
    type: Annotated[str, AfterValidator(functions_only)]


class FlatTool(Function, _Kind):  # in this order the kind is looked at first
    defer_loading: Annotated[Any, Only(False)] = None


class _NamedTool(RequestModel):
    type: Literal["function"]
    name: FunctionName


class _AllowedTools(RequestModel):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[_NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


def _choice_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<mode>"
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("function", "allowed_tools") else None


FlatChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[_NamedTool, Tag("<function>")]
    | Annotated[_AllowedTools, Tag("<allowed_tools>")],
    Discriminator(
        _choice_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be 'none', 'auto', 'required' or an object that names a function",
    ),
]


class ResponseTools(RequestModel):
    tools: Annotated[list[FlatTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: FlatChoice | None = None
    parallel_tool_calls: bool | None = None

    def shown_tools(self) -> list[Function]:
        """Those that the model is told of. Raises `BadRequest` where the choice and the functions do not agree."""
        return choose([*(self.tools or [])], self._choice())

    def call_rules(self) -> CallRules:
        return rules_of(self.shown_tools(), self._choice(), several=self.parallel_tool_calls is not False)

    def _choice(self) -> Choice:
        choice = self.tool_choice
        if isinstance(choice, _NamedTool):
            return Choice(is_required=True, only=choice.name)
        if isinstance(choice, _AllowedTools):
            return Choice(is_required=choice.mode == "required", allowed=[tool.name for tool in choice.tools])
        return Choice.of_mode(choice)
