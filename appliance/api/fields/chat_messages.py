"""The messages of a conversation, as they are sent and as chat templates read them.

Knows no request and no response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from appliance.api.fields.parameters import Label, NeutralOnly
from appliance.api.fields.request import RequestModel
from appliance.api.fields.tools import MAX_TOOLS
from appliance.protocol.requests import ChatPrompt

MAX_MESSAGES = 4096  # and parts of one message: a template is rendered for each


def _text_only(kind: str) -> str:
    if kind != "text":
        raise PydanticCustomError(
            "unsupported_parameter",
            "Content parts of type '{kind}' are not supported yet; only 'text' is supported.",
            {"kind": kind[:40]},
        )
    return kind


class ContentPart(RequestModel):
    type: Annotated[str, AfterValidator(_text_only)]
    text: str


def _content_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<parts>" if isinstance(value, list) else None


MessageContent = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[
        list[ContentPart],
        Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True),
        Tag("<parts>"),
    ],
    Discriminator(
        _content_kind,
        custom_error_type="invalid_value",
        custom_error_message="The content must be a string or a list of text parts",
    ),
]


class InputFunctionCall(RequestModel):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: str


class InputToolCall(RequestModel):
    """A call made by an earlier response."""

    id: Label
    type: Literal["function"] = "function"
    function: InputFunctionCall
    index: int | None = None  # in streamed calls, which some clients send back as they came

    def for_template(self) -> dict[str, Any]:
        function = {"name": self.function.name, "arguments": self.function.arguments}
        return {"id": self.id, "type": self.type, "function": function}


class InputMessage(RequestModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[InputToolCall], Field(max_length=MAX_TOOLS)] | None = None
    content: Annotated[MessageContent | None, Field(validate_default=True)] = None
    name: Label | None = None
    tool_call_id: Annotated[Label | None, Field(validate_default=True)] = None
    reasoning_content: str | None = None  # of an earlier response; templates may show it
    refusal: Annotated[Any, NeutralOnly()] = None
    audio: Annotated[Any, NeutralOnly()] = None
    function_call: Annotated[Any, NeutralOnly()] = None

    @field_validator("tool_calls")
    @classmethod
    def _by_the_assistant(
        cls, value: list[InputToolCall] | None, info: ValidationInfo
    ) -> list[InputToolCall] | None:
        if value and info.data.get("role") != "assistant":
            raise PydanticCustomError(
                "invalid_value", "Only messages of the assistant can have tool calls."
            )
        return value

    @field_validator("content")
    @classmethod
    def _has_content_or_calls(
        cls, value: MessageContent | None, info: ValidationInfo
    ) -> MessageContent | None:
        if (
            value is None
            and "role" in info.data
            and "tool_calls" in info.data
            and not info.data["tool_calls"]
        ):
            raise PydanticCustomError(
                "invalid_value",
                "It must be a string or a list of text parts; only a message with 'tool_calls' may "
                "leave it out.",
            )
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _names_its_call(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("role") == "tool":
            raise PydanticCustomError(
                "missing", "Field required: it names the call whose result this is."
            )
        return value

    def for_template(self) -> dict[str, Any]:
        """As templates expect it: `developer` is OpenAI's newer word for `system`;
        parts are joined by line breaks.
        """
        content = (
            self.content
            if self.content is None or isinstance(self.content, str)
            else _joined(self.content)
        )
        given = {
            "name": self.name,
            "tool_call_id": self.tool_call_id,
            "reasoning_content": self.reasoning_content,
            "tool_calls": [call.for_template() for call in self.tool_calls or []] or None,
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {
            "role": "system" if self.role == "developer" else self.role,
            "content": content,
            **own,
        }


def _joined(parts: Sequence[ContentPart]) -> str:
    return "\n".join(part.text for part in parts)


def chat_prompt(
    messages: Sequence[InputMessage],
    template_arguments: dict[str, Any] | None,
    tools: Sequence[dict[str, Any]] = (),
    reasoning_effort: str | None = None,
) -> ChatPrompt:
    """A last message of the assistant is continued, unless it ends with calls."""
    last = messages[-1]
    return ChatPrompt(
        messages=[message.for_template() for message in messages],
        tools=list(tools) or None,
        arguments=template_arguments or {},
        continue_final_message=last.role == "assistant" and not last.tool_calls,
        reasoning_effort=reasoning_effort,
    )
