"""Functions in the shape of /v1/responses, which is flatter than that of chats.

Knows no items and no response.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.request import LabelledModel, RequestModel
from appliance.api.fields.tools import (
    MAX_TOOLS,
    Function,
    FunctionName,
    ToolSelection,
    functions_only,
    plain_mode,
    select_functions,
    tool_call_rules,
)
from appliance.errors import BadRequest
from appliance.protocol.requests import ToolCallRules


class _FlatToolKind(LabelledModel):
    type: Annotated[str, AfterValidator(functions_only)] = "function"


class FlatTool(Function, _FlatToolKind):  # in this order the kind is looked at first
    defer_loading: Annotated[Any, NeutralOnly(False)] = None


class Namespace(LabelledModel):
    """Functions that belong together: their calls name it."""

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


class FlatFunctionChoice(LabelledModel):
    type: Literal["function"]
    name: FunctionName


class FlatAllowedToolsChoice(LabelledModel):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FlatFunctionChoice], Field(min_length=1, max_length=MAX_TOOLS)]


def _choice_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<mode>"
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("function", "allowed_tools") else None


FlatToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[FlatFunctionChoice, Tag("<function>")]
    | Annotated[FlatAllowedToolsChoice, Tag("<allowed_tools>")],
    Discriminator(
        _choice_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be 'none', 'auto', 'required' or an object that names a "
        "function",
    ),
    BeforeValidator(plain_mode),
]


class ResponseTools(RequestModel):
    tools: Annotated[list[ResponseTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: FlatToolChoice | None = None
    parallel_tool_calls: bool | None = None

    def shown_names(self) -> dict[CalledName, str]:
        """The name of each function that the model is shown: templates know no
        namespaces, so the name includes it where names repeat.
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
        """Those that the model is shown.

        Raises `BadRequest` where the choice and the functions do not agree.
        """
        functions = [*self._functions()]
        if len(functions) > MAX_TOOLS:
            raise BadRequest(
                f"At most {MAX_TOOLS} functions are accepted (got {len(functions)}).", param="tools"
            )
        names = self.shown_names()
        shown = [
            function.model_copy(update={"name": names[called]}) for called, function in functions
        ]
        return select_functions(shown, self._selection())

    def tool_call_rules(self) -> ToolCallRules:
        several = self.parallel_tool_calls is not False
        return tool_call_rules(self.shown_tools(), self._selection(), several=several)

    def _selection(self) -> ToolSelection:
        choice = self.tool_choice
        if isinstance(choice, FlatFunctionChoice):
            return ToolSelection(is_required=True, only=choice.name)
        if isinstance(choice, FlatAllowedToolsChoice):
            return ToolSelection(
                is_required=choice.mode == "required", allowed=[tool.name for tool in choice.tools]
            )
        return ToolSelection.of_mode(choice)
