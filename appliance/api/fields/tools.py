"""Functions that an answer may call, and how it is to choose.

Knows no messages and no way of writing calls.

Source: https://platform.openai.com/docs/guides/function-calling
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import RequestModel
from appliance.errors import BadRequest
from appliance.protocol.requests import ToolCallRules

MAX_TOOLS = 128  # OpenAI's
MAX_SCHEMA_BYTES = 256 << 10

FunctionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise PydanticCustomError("invalid_value", "It must be the schema of an object.")
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
        raise PydanticCustomError("invalid_value", "It is too large: at most 256 KiB are taken.")
    return schema


Parameters = Annotated[dict[str, Any], AfterValidator(_bounded)]


class Function(RequestModel):
    name: FunctionName
    description: Annotated[str, Field(max_length=65536)] | None = None
    parameters: Parameters | None = None
    strict: bool | None = None

    def for_template(self) -> dict[str, Any]:
        """As templates read it: all three are always there."""
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
            "Tools of type '{kind}' are not supported: only functions are, which the client runs "
            "itself.",
            {"kind": kind[:40]},
        )
    return kind


class FunctionTool(RequestModel):
    type: Annotated[str, AfterValidator(functions_only)]
    function: Function


class _FunctionName(RequestModel):
    name: FunctionName


class NamedFunction(RequestModel):
    type: Literal["function"]
    function: _FunctionName


class _AllowedTools(RequestModel):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedFunction], Field(min_length=1, max_length=MAX_TOOLS)]


class _Allowed(RequestModel):
    type: Literal["allowed_tools"]
    allowed_tools: _AllowedTools


def _choice_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<mode>"
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("function", "allowed_tools") else None


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[NamedFunction, Tag("<function>")]
    | Annotated[_Allowed, Tag("<allowed_tools>")],
    Discriminator(
        _choice_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be 'none', 'auto', 'required' or an object that names a "
        "function",
    ),
]


class ToolFields(RequestModel):
    """The fields of a chat that concern calls."""

    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None

    def shown_tools(self) -> list[Function]:
        """Those that the model is told of.

        Raises `BadRequest` where the choice and the functions do not agree.
        """
        return choose([tool.function for tool in self.tools or []], self._choice())

    def tool_call_rules(self) -> ToolCallRules:
        return rules_of(
            self.shown_tools(), self._choice(), several=self.parallel_tool_calls is not False
        )

    def _choice(self) -> Choice:
        choice = self.tool_choice
        if isinstance(choice, NamedFunction):
            return Choice(is_required=True, only=choice.function.name)
        if isinstance(choice, _Allowed):
            allowed = choice.allowed_tools
            return Choice(
                is_required=allowed.mode == "required",
                allowed=[tool.function.name for tool in allowed.tools],
            )
        return Choice.of_mode(choice)


@dataclass(frozen=True)
class Choice:
    """What `tool_choice` says, in either shape: only of those `allowed`, or `only` one,
    which must be called.
    """

    is_required: bool = False
    is_none: bool = False
    only: str | None = None
    allowed: Sequence[str] | None = None

    @classmethod
    def of_mode(cls, mode: str | None) -> Choice:
        return cls(is_required=mode == "required", is_none=mode == "none")

    @property
    def named(self) -> Sequence[str]:
        return [self.only] if self.only is not None else self.allowed or ()


def choose(functions: list[Function], choice: Choice) -> list[Function]:
    """The functions that a choice leaves. Raises `BadRequest` where they do not agree."""
    names = [function.name for function in functions]
    repeated = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if repeated is not None:
        raise BadRequest(f"Two functions are called '{repeated}'.", param="tools")
    unknown = next((name for name in choice.named if name not in names), None)
    if unknown is not None:
        raise BadRequest(f"There is no function '{unknown}' among 'tools'.", param="tool_choice")
    if choice.is_required and not functions:
        raise BadRequest(
            "There is no function that could be called: send 'tools'.", param="tool_choice"
        )
    if choice.is_none:
        return []
    return [
        function
        for function in functions
        if choice.allowed is None or function.name in choice.allowed
    ]


def rules_of(shown: list[Function], choice: Choice, *, several: bool) -> ToolCallRules:
    """How the functions shown may be called."""
    return ToolCallRules(
        is_required=choice.is_required,
        only=choice.only,
        several=several and choice.only is None,
        is_strict=any(function.strict for function in shown),
    )
