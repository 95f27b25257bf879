"""The items of /v1/responses that a client sends, and the messages that they are.

Knows no request and no response.

Source: https://platform.openai.com/docs/api-reference/responses/create (`input`)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from appliance.api.fields.chat_messages import MAX_MESSAGES, ArgumentsText, said_text
from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.parameters import Label
from appliance.api.fields.request import LabelledModel
from appliance.api.fields.text_or_list import TEXT, text_or_list
from appliance.api.openai.responses.tools import CalledName

_TEXTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")


def _text_only(kind: str) -> str:
    if kind not in _TEXTS:
        raise PydanticCustomError(
            "unsupported_parameter",
            "Content of type '{kind}' is not supported yet; only text is supported.",
            {"kind": kind[:40]},
        )
    return kind


class TextPart(LabelledModel):
    """A text; what comes back from an earlier response has labels too."""

    type: Annotated[str, AfterValidator(_text_only)]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refusal_is_text(cls, data: object) -> object:
        return said_text(data)


ItemContent = Annotated[
    Annotated[str, Tag(TEXT)]
    | Annotated[list[TextPart], Field(max_length=MAX_MESSAGES, fail_fast=True), Tag("<parts>")],
    text_or_list("<parts>", "It must be a string or a list of text parts"),
]


class MessageItem(LabelledModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[ItemContent | None, Field(validate_default=True)] = None

    @field_validator("content")
    @classmethod
    def _there_where_it_was_asked(
        cls, value: ItemContent | None, info: ValidationInfo
    ) -> ItemContent | None:
        if value is None and info.data.get("role", "assistant") != "assistant":
            raise PydanticCustomError(
                "invalid_value",
                "It must be a string or a list of text parts; only messages of the assistant may "
                "leave it out.",
            )
        return value


class CallItem(LabelledModel):
    type: Literal["function_call"]
    call_id: Label
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: ArgumentsText = "{}"
    namespace: Label | None = None


class CallOutputItem(LabelledModel):
    type: Literal["function_call_output"]
    call_id: Label
    output: ItemContent = ""  # of a function that returned nothing


class ReasoningItem(LabelledModel):
    type: Literal["reasoning"]
    summary: Annotated[list[TextPart], Field(max_length=MAX_MESSAGES)] | None = None
    content: Annotated[list[TextPart], Field(max_length=MAX_MESSAGES)] | None = None
    encrypted_content: Annotated[Any, NeutralOnly()] = None


_KINDS = ("message", "function_call", "function_call_output", "reasoning")


def _item_kind(value: object) -> str | None:
    kind = (value.get("type") or "message") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in _KINDS else None


Item = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[CallItem, Tag("<function_call>")]
    | Annotated[CallOutputItem, Tag("<function_call_output>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")],
    Discriminator(
        _item_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be an item of type " + ", ".join(_KINDS),
    ),
]


def messages_of(
    items: Sequence[Item], shown_names: Mapping[CalledName, str]
) -> list[dict[str, Any]]:
    """As chat templates read them: a response's reasoning, text and calls become one
    message of the assistant.

    So do system messages that follow each other: agents send several, and many
    templates take only one. `shown_names`: see `ResponseTools`; a function that is not
    offered any more has its plain name.
    """
    messages: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, CallOutputItem):
            messages.append(
                {"role": "tool", "content": _text(item.output), "tool_call_id": item.call_id}
            )
        elif isinstance(item, MessageItem) and item.role != "assistant":
            role = "system" if item.role == "developer" else item.role
            if role == "system" and messages and messages[-1]["role"] == "system":
                messages[-1]["content"] += "\n\n" + _text(item.content)
            else:
                messages.append({"role": role, "content": _text(item.content)})
        else:
            _add_to_turn(messages, item, shown_names)
    return messages


def _add_to_turn(
    messages: list[dict[str, Any]],
    item: MessageItem | CallItem | ReasoningItem,
    shown_names: Mapping[CalledName, str],
) -> None:
    turn = messages[-1] if messages and messages[-1]["role"] == "assistant" else None
    if isinstance(item, CallItem):
        name = shown_names.get(CalledName(item.name, item.namespace), item.name)
        function = {"name": name, "arguments": item.arguments}
        turn = turn or _new_turn(messages)
        turn.setdefault("tool_calls", []).append(
            {"id": item.call_id, "type": "function", "function": function}
        )
    elif isinstance(item, ReasoningItem):
        _new_turn(messages)["reasoning_content"] = _text(item.content or item.summary or [])
    else:
        is_free = turn is not None and turn["content"] is None and "tool_calls" not in turn
        target = turn if turn is not None and is_free else _new_turn(messages)
        target["content"] = _text(item.content)


def _new_turn(messages: list[dict[str, Any]]) -> dict[str, Any]:
    messages.append({"role": "assistant", "content": None})
    return messages[-1]


def _text(content: str | Sequence[TextPart] | None) -> str:
    if content is None:
        return ""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)
