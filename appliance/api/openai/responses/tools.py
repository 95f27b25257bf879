"""Functions in the shape of /v1/responses, which is flatter than that of chats.

Knows no items and no answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Discriminator, Field, Tag

from appliance.api.fields.parameters import Only
from appliance.api.fields.request import RequestModel
from appliance.api.fields.tools import (
    MAX_TOOLS,
    Choice,
    Function,
    FunctionName,
    choose,
    functions_only,
    rules_of,
)
from appliance.errors import BadRequest
from appliance.protocol.requests import ToolCallRules


class _Kind(RequestModel):
    type: Annotated[str, AfterValidator(functions_only)]


class FlatTool(Function, _Kind):  # in this order the kind is looked at first
    defer_loading: Annotated[Any, Only(False)] = None


class Namespace(RequestModel):
    """Functions that belong together: their calls say so."""

    type: Literal["namespace"]
    name: FunctionName
    description: Annotated[str, Field(max_length=65536)] | None = None
    tools: Annotated[list[FlatTool], Field(max_length=MAX_TOOLS)]


def _tool_kind(value: object) -> str:
    return (
        "<namespace>"
        if isinstance(value, dict) and value.get("type") == "namespace"
        else "<function>"
    )


ResponseTool = Annotated[
    Annotated[FlatTool, Tag("<function>")] | Annotated[Namespace, Tag("<namespace>")],
    Discriminator(_tool_kind),
]


class CalledName(NamedTuple):
    """What a client calls a function."""

    name: str
    namespace: str | None


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
        custom_error_message="It must be 'none', 'auto', 'required' or an object that names a "
        "function",
    ),
]


class ResponseTools(RequestModel):
    tools: Annotated[list[ResponseTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: FlatChoice | None = None
    parallel_tool_calls: bool | None = None

    def shown_names(self) -> dict[CalledName, str]:
        """How the model is told of each function: templates know no namespaces, so one
        is told where names repeat.
        """
        functions = [called for called, _ in self._functions()]
        uses = Counter(called.name for called in functions)
        return {
            called: called.name
            if called.namespace is None or uses[called.name] == 1
            else f"{called.namespace}__{called.name}"
            for called in functions
        }

    def _functions(self) -> Iterator[tuple[CalledName, Function]]:
        for tool in self.tools or []:
            if isinstance(tool, Namespace):
                yield from ((CalledName(each.name, tool.name), each) for each in tool.tools)
            else:
                yield CalledName(tool.name, None), tool

    def shown_tools(self) -> list[Function]:
        """Those that the model is told of.

        Raises `BadRequest` where the choice and the functions do not agree.
        """
        functions = [*self._functions()]
        if len(functions) > MAX_TOOLS:
            raise BadRequest(
                f"These are {len(functions)} functions; {MAX_TOOLS} are the most.", param="tools"
            )
        names = self.shown_names()
        shown = [
            function.model_copy(update={"name": names[called]}) for called, function in functions
        ]
        return choose(shown, self._choice())

    def tool_call_rules(self) -> ToolCallRules:
        return rules_of(
            self.shown_tools(), self._choice(), several=self.parallel_tool_calls is not False
        )

    def _choice(self) -> Choice:
        choice = self.tool_choice
        if isinstance(choice, _NamedTool):
            return Choice(is_required=True, only=choice.name)
        if isinstance(choice, _AllowedTools):
            return Choice(
                is_required=choice.mode == "required", allowed=[tool.name for tool in choice.tools]
            )
        return Choice.of_mode(choice)
