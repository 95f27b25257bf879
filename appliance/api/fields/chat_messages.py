"""The messages of a conversation, as they are sent and as chat templates read them.

Knows no request and no response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.parameters import Label
from appliance.api.fields.request import LabelledModel
from appliance.api.fields.text_or_list import TEXT, text_or_list
from appliance.api.fields.tools import MAX_TOOLS
from appliance.errors import BadRequest
from appliance.protocol.requests import ChatPrompt

_MAY_BE_EMPTY = ("assistant", "tool")
_MADE_UP_ID = "call{:05}"  # nine letters and digits, which is all that some templates take
MAX_MESSAGES = 4096  # and parts of one message: a template is rendered for each


_TEXTS = ("text", "input_text", "output_text", "refusal")


def _text_only(kind: str) -> str:
    if kind not in _TEXTS:
        raise PydanticCustomError(
            "unsupported_parameter",
            "Content parts of type '{kind}' are not supported yet; only 'text' is supported.",
            {"kind": kind[:40]},
        )
    return kind


def said_text(part: object) -> object:
    """The part, with what OpenAI's `refusal` says as its text."""
    if isinstance(part, dict) and part.get("type") == "refusal" and "text" not in part:
        return {**part, "text": part.get("refusal")}
    return part


class ContentPart(LabelledModel):
    type: Annotated[str, AfterValidator(_text_only)]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, data: object) -> object:
        return said_text(data)


MessageContent = Annotated[
    Annotated[str, Tag(TEXT)]
    | Annotated[list[ContentPart], Field(max_length=MAX_MESSAGES, fail_fast=True), Tag("<parts>")],
    text_or_list("<parts>", "The content must be a string or a list of text parts"),
]


def _arguments_text(value: object) -> object:
    return msgspec.json.encode(value).decode("utf-8") if isinstance(value, dict) else value


# JSON; some clients send the object itself
ArgumentsText = Annotated[str, BeforeValidator(_arguments_text)]


class InputFunctionCall(LabelledModel):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: ArgumentsText = "{}"


class InputToolCall(LabelledModel):
    """A call made by an earlier response."""

    id: Label | None = None
    type: Literal["function"] = "function"
    function: InputFunctionCall

    def for_template(self, made_up_id: str) -> dict[str, Any]:
        function = {"name": self.function.name, "arguments": self.function.arguments}
        return {"id": self.id or made_up_id, "type": self.type, "function": function}


class InputMessage(LabelledModel):
    """Only what its sender was not told may be missing: an answer that was cancelled
    has no content, and neither has a tool that returned nothing.
    """

    needs_call: ClassVar[bool] = True  # where it is the result of one

    role: Literal["system", "developer", "user", "assistant", "tool"]
    tool_calls: Annotated[list[InputToolCall], Field(max_length=MAX_TOOLS)] | None = None
    content: Annotated[MessageContent | None, Field(validate_default=True)] = None
    name: Label | None = None
    tool_call_id: Label | None = None
    reasoning_content: str | None = None  # of an earlier response; templates may show it
    reasoning: Any = None  # the same as vLLM and OpenRouter name it, where it is a text
    thinking: Any = None  # the same, Ollama's
    refusal: Any = None  # the content, where the model refused
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
    def _there_where_it_was_asked(
        cls, value: MessageContent | None, info: ValidationInfo
    ) -> MessageContent | None:
        if value or isinstance(value, str) or info.data.get("role", "tool") in _MAY_BE_EMPTY:
            return value
        if value is None:
            raise PydanticCustomError(
                "invalid_value",
                "It must be a string or a list of text parts; only messages of the assistant and "
                "of tools may leave it out.",
            )
        raise PydanticCustomError("invalid_value", "The list must have at least 1 item.")

    def for_template(self) -> dict[str, Any]:
        """As templates expect it: `developer` is OpenAI's newer word for `system`;
        parts are joined by line breaks. Calls are left out.
        """
        given = {
            "name": self.name,
            "tool_call_id": self.tool_call_id,
            "reasoning_content": self._reasoning(),
        }
        own = {name: value for name, value in given.items() if value is not None}
        return {
            "role": "system" if self.role == "developer" else self.role,
            "content": self._text(),
            **own,
        }

    def _text(self) -> str | None:
        if self.content is None and isinstance(self.refusal, str):
            return self.refusal
        if self.content is None:
            return None if self.tool_calls else ""
        return self.content if isinstance(self.content, str) else _joined(self.content)

    def _reasoning(self) -> str | None:
        names = (self.reasoning_content, self.reasoning, self.thinking)
        return next((text for text in names if isinstance(text, str)), None)


def _joined(parts: Sequence[ContentPart]) -> str:
    return "\n".join(part.text for part in parts)


def continues_last(messages: Sequence[InputMessage]) -> bool:
    """A last message of the assistant is continued, unless it ends with calls."""
    return messages[-1].role == "assistant" and not messages[-1].tool_calls


def chat_prompt(
    messages: Sequence[InputMessage],
    template_arguments: dict[str, Any] | None,
    tools: Sequence[dict[str, Any]] = (),
    reasoning_effort: str | None = None,
) -> ChatPrompt:
    return ChatPrompt(
        messages=_linked(messages),
        tools=list(tools) or None,
        arguments=template_arguments or {},
        continue_final_message=continues_last(messages),
        reasoning_effort=reasoning_effort,
    )


def _linked(messages: Sequence[InputMessage]) -> list[dict[str, Any]]:
    """As templates expect them, with each call and its result under one id. Where the
    client has none, results belong to the calls before them, in their order.

    Raises `BadRequest` where there is a result and no call, and needs to be one.
    """
    linked = []
    num_calls = 0
    waiting: list[str] = []  # ids of the last calls, those whose result has not come yet
    for at, message in enumerate(messages):
        one = message.for_template()
        if message.tool_calls:
            one["tool_calls"] = []
            for call in message.tool_calls:
                num_calls += 1
                one["tool_calls"].append(call.for_template(_MADE_UP_ID.format(num_calls)))
            waiting = [call["id"] for call in one["tool_calls"]]
        if message.role == "tool":
            own = one.setdefault("tool_call_id", waiting[0] if waiting else None)
            if own is None and not message.needs_call:
                num_calls += 1
                own = one["tool_call_id"] = _MADE_UP_ID.format(num_calls)
            if own is None:
                raise BadRequest(
                    f"Missing required parameter: 'messages[{at}].tool_call_id'. It names the call "
                    "whose result this is.",
                    param=f"messages[{at}].tool_call_id",
                )
            waiting = [each for each in waiting if each != own]
        linked.append(one)
    return linked
