"""Functions that a response may call, and how it is to choose.

Knows no messages and no way of writing calls.

Source: https://platform.openai.com/docs/guides/function-calling
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import LabelledModel, RequestModel
from appliance.errors import BadRequest
from appliance.protocol.requests import ToolCallRules

MAX_TOOLS = 128  # OpenAI's
MAX_SCHEMA_BYTES = 256 << 10

# OpenAI's names, and those of MCP's servers
FunctionName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9_./:-]+$")]


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise PydanticCustomError("invalid_value", "It must be the schema of an object.")
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
        raise PydanticCustomError("invalid_value", "It is too large: at most 256 KiB are accepted.")
    return schema


Parameters = Annotated[dict[str, Any], AfterValidator(_bounded)]


class Function(LabelledModel):
    name: FunctionName
    description: Annotated[str, Field(max_length=65536)] | None = None
    parameters: Parameters | None = None
    strict: bool | None = None

    def for_template(self) -> dict[str, Any]:
        """As templates expect it: all three fields are always there."""
        parameters = {"type": "object", "properties": {}, **(self.parameters or {})}
        function = {
            "name": self.name,
            "description": self.description or "",
            "parameters": parameters,
        }
        return {"type": "function", "function": function}


def functions_only(kind: str) -> str:
    if kind != "function":
        raise PydanticCustomError(
            "unsupported_parameter",
            "Tools of type '{kind}' are not supported; only 'function' is, whose calls the client "
            "runs itself.",
            {"kind": kind[:40]},
        )
    return kind


class FunctionTool(LabelledModel):
    type: Annotated[str, AfterValidator(functions_only)] = "function"
    function: Function
    strict: bool | None = None  # where some clients put the function's own

    def whole_function(self) -> Function:
        if self.strict is None or self.function.strict is not None:
            return self.function
        return self.function.model_copy(update={"strict": self.strict})


class ChosenFunction(LabelledModel):
    name: FunctionName


class FunctionToolChoice(LabelledModel):
    type: Literal["function"]
    function: ChosenFunction


class AllowedTools(LabelledModel):
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionToolChoice], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedToolsChoice(LabelledModel):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def plain_mode(value: object) -> object:
    """`{"type": "auto"}` is `auto`, and `any` is Mistral's and Anthropic's `required`."""
    kind = value.get("type") if isinstance(value, dict) else value
    if kind == "any":
        return "required"
    return kind if kind in ("none", "auto", "required") else value


def _choice_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<mode>"
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("function", "allowed_tools") else None


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[FunctionToolChoice, Tag("<function>")]
    | Annotated[AllowedToolsChoice, Tag("<allowed_tools>")],
    Discriminator(
        _choice_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be 'none', 'auto', 'required' or an object that names a "
        "function",
    ),
    BeforeValidator(plain_mode),
]


class ToolFields(RequestModel):
    """Those of a chat that concern calls."""

    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    def shown_tools(self) -> list[Function]:
        """Those that the model is shown.

        Raises `BadRequest` where the choice and the functions do not agree.
        """
        functions = [tool.whole_function() for tool in self.tools or []]
        return select_functions(functions, self._selection())

    def tool_call_rules(self) -> ToolCallRules:
        several = self.parallel_tool_calls is not False
        return tool_call_rules(self.shown_tools(), self._selection(), several=several)

    def _selection(self) -> ToolSelection:
        choice = self.tool_choice
        if isinstance(choice, FunctionToolChoice):
            return ToolSelection(is_required=True, only=choice.function.name)
        if isinstance(choice, AllowedToolsChoice):
            allowed = choice.allowed_tools
            return ToolSelection(
                is_required=allowed.mode == "required",
                allowed=[tool.function.name for tool in allowed.tools],
            )
        return ToolSelection.of_mode(choice)


@dataclass(frozen=True)
class ToolSelection:
    """What `tool_choice` asks for, in the shape of any wire format."""

    is_required: bool = False
    is_none: bool = False
    only: str | None = None  # the one that must be called
    allowed: Sequence[str] | None = None  # None: all

    @classmethod
    def of_mode(cls, mode: str | None) -> ToolSelection:
        return cls(is_required=mode == "required", is_none=mode == "none")

    @property
    def named(self) -> Sequence[str]:
        return [self.only] if self.only is not None else self.allowed or ()


def select_functions(functions: list[Function], selection: ToolSelection) -> list[Function]:
    """The functions that a selection leaves.

    Raises `BadRequest` where they do not agree.
    """
    names = [function.name for function in functions]
    repeated = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if repeated is not None:
        raise BadRequest(f"Two functions are named '{repeated}'.", param="tools")
    unknown = next((name for name in selection.named if name not in names), None)
    if unknown is not None:
        raise BadRequest(f"'tools' has no function named '{unknown}'.", param="tool_choice")
    if selection.is_required and not functions:
        raise BadRequest(
            "A tool call is required, but there are no functions: send 'tools'.",
            param="tool_choice",
        )
    if selection.is_none:
        return []
    return [
        function
        for function in functions
        if selection.allowed is None or function.name in selection.allowed
    ]


def tool_call_rules(
    shown: list[Function], selection: ToolSelection, *, several: bool
) -> ToolCallRules:
    """How the functions shown may be called."""
    return ToolCallRules(
        is_required=selection.is_required,
        only=selection.only,
        several=several and selection.only is None,
        is_strict=any(function.strict for function in shown),
        strict_names=[function.name for function in shown if function.strict],
    )
