"""Functions in Anthropic's shape, and how a response is to choose among them.

Knows no messages. Source: https://docs.claude.com/en/docs/agents-and-tools/tool-use
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import LabelledModel, RequestModel
from appliance.api.fields.tools import (
    Function,
    FunctionName,
    Parameters,
    ToolSelection,
    select_functions,
    tool_call_rules,
)
from appliance.errors import BadRequest
from appliance.protocol.requests import ToolCallRules

MAX_TOOLS = 1024  # agents with many MCP servers have hundreds


def _clients_only(kind: str) -> str:
    if kind not in ("custom", "function"):
        raise PydanticCustomError(
            "unsupported_parameter",
            "Tools of type '{kind}' are not supported; only 'custom' ones are, with an "
            "'input_schema', whose calls the client runs itself.",
            {"kind": kind[:40]},
        )
    return kind


class Tool(LabelledModel):
    type: Annotated[str, AfterValidator(_clients_only)] = "custom"
    name: FunctionName
    description: Annotated[str, Field(max_length=65536)] | None = None
    input_schema: Parameters | None = None
    strict: bool | None = None

    def as_function(self) -> Function:
        return Function(
            name=self.name,
            description=self.description,
            parameters=self.input_schema,
            strict=self.strict,
        )


def _as_object(value: object) -> object:
    """`auto` is `{"type": "auto"}`; OpenAI's word for `any` is `required`."""
    if isinstance(value, str):
        return {"type": "any" if value == "required" else value}
    return value


class ToolChoice(LabelledModel):
    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool | None = None


class MessageTools(RequestModel):
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[ToolChoice, BeforeValidator(_as_object)] | None = None

    def shown_tools(self) -> list[Function]:
        """Those that the model is shown.

        Raises `BadRequest` where the choice and the functions do not agree.
        """
        functions = [tool.as_function() for tool in self.tools or []]
        return select_functions(functions, self._selection())

    def tool_call_rules(self) -> ToolCallRules:
        choice = self.tool_choice
        several = choice is None or not choice.disable_parallel_tool_use
        return tool_call_rules(self.shown_tools(), self._selection(), several=several)

    def _selection(self) -> ToolSelection:
        choice = self.tool_choice
        if choice is None:
            return ToolSelection()
        if choice.type != "tool":
            return ToolSelection(is_required=choice.type == "any", is_none=choice.type == "none")
        if choice.name is None:
            raise BadRequest(
                "Missing required parameter: 'tool_choice.name'. It names the tool to be called.",
                param="tool_choice.name",
            )
        return ToolSelection(is_required=True, only=choice.name)
