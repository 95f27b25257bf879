"""The content blocks that a client sends, and the texts that they are.

Knows no message and no request. Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from appliance.api.fields.chat_messages import MAX_MESSAGES
from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.parameters import Label
from appliance.api.fields.request import LabelledModel

_SAID = ("error", "<tool_use_error>")  # how errors begin that say so themselves


def _not_supported(kind: str) -> str:
    raise PydanticCustomError(
        "unsupported_parameter",
        "Content blocks of type '{kind}' are not supported yet.",
        {"kind": kind[:40]},
    )


def _plain_source(kind: str) -> str:
    if kind not in ("text", "content"):
        raise PydanticCustomError(
            "unsupported_parameter",
            "Documents whose source is '{kind}' are not supported yet; only plain text is.",
            {"kind": kind[:40]},
        )
    return kind


class TextBlock(LabelledModel):
    type: Literal["text"] = "text"
    text: str


class OtherBlock(LabelledModel):
    """An image, for example."""

    type: Annotated[str, AfterValidator(_not_supported)]


class Citations(LabelledModel):
    enabled: Annotated[Any, NeutralOnly(False)] = None


def _as_blocks(value: object) -> object:
    """A text is the shorthand for one block."""
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


TextBlocks = Annotated[
    list[TextBlock],
    Field(max_length=MAX_MESSAGES, fail_fast=True),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[TextBlock]),
]


class DocumentSource(LabelledModel):
    type: Annotated[str, AfterValidator(_plain_source)]
    data: str = ""
    content: TextBlocks | None = None


class DocumentBlock(LabelledModel):
    type: Literal["document"]
    source: DocumentSource
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None

    @property
    def text(self) -> str:
        parts = [self.title, self.context, self.source.data, joined(self.source.content or ())]
        return "\n".join(part for part in parts if part)


class SearchResultBlock(LabelledModel):
    type: Literal["search_result"]
    title: str = ""
    source: str = ""
    content: TextBlocks
    citations: Citations | None = None

    @property
    def text(self) -> str:
        parts = (self.title, self.source, joined(self.content))
        return "\n".join(part for part in parts if part)


class ToolReferenceBlock(LabelledModel):
    """A function that a client's own search found: all are shown anyway."""

    type: Literal["tool_reference"]
    tool_name: Label

    @property
    def text(self) -> str:
        return self.tool_name


def _kind_among(*kinds: str) -> Callable[[object], str | None]:
    def kind_of(block: object) -> str | None:
        if not isinstance(block, dict):
            return None
        kind = block.get("type") or ("text" if "text" in block else None)
        return f"<{kind}>" if kind in kinds else "<other>"

    return kind_of


_A_BLOCK: dict[str, Any] = {
    "custom_error_type": "invalid_value",
    "custom_error_message": "It must be a content block: an object with a 'type'",
}
_TEXTS = ("text", "document", "search_result")

ResultBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[DocumentBlock, Tag("<document>")]
    | Annotated[SearchResultBlock, Tag("<search_result>")]
    | Annotated[ToolReferenceBlock, Tag("<tool_reference>")]
    | Annotated[OtherBlock, Tag("<other>")],
    Discriminator(_kind_among(*_TEXTS, "tool_reference"), **_A_BLOCK),
]


class ToolResultBlock(LabelledModel):
    type: Literal["tool_result"]
    tool_use_id: Label
    content: Annotated[
        list[ResultBlock] | None,
        Field(max_length=MAX_MESSAGES, fail_fast=True),
        BeforeValidator(_as_blocks, json_schema_input_type=str | list[ResultBlock] | None),
    ] = None
    is_error: bool | None = None

    @property
    def text(self) -> str:
        """Templates have no place for errors: the text says so itself."""
        text = joined(self.content or ())
        if not self.is_error or text.lstrip().lower().startswith(_SAID):
            return text
        return f"Error: {text}" if text else "Error"


class ToolUseBlock(LabelledModel):
    """A call made by an earlier response."""

    type: Literal["tool_use"]
    id: Label
    name: Annotated[str, Field(min_length=1, max_length=256)]
    input: Annotated[dict[str, Any], Field(default_factory=dict)]

    def for_template(self) -> dict[str, Any]:
        arguments = msgspec.json.encode(self.input).decode("utf-8")
        function = {"name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


class ThinkingBlock(LabelledModel):
    """The reasoning of an earlier response; its signature is not looked at."""

    type: Literal["thinking"]
    thinking: str


class RedactedThinkingBlock(LabelledModel):
    """Reasoning that only its sender can read: left out."""

    type: Literal["redacted_thinking"]


Block = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[DocumentBlock, Tag("<document>")]
    | Annotated[SearchResultBlock, Tag("<search_result>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[RedactedThinkingBlock, Tag("<redacted_thinking>")]
    | Annotated[OtherBlock, Tag("<other>")],
    Discriminator(
        _kind_among(*_TEXTS, "tool_result", "tool_use", "thinking", "redacted_thinking"), **_A_BLOCK
    ),
]
Blocks = Annotated[
    list[Block],
    Field(max_length=MAX_MESSAGES, fail_fast=True),
    BeforeValidator(_as_blocks, json_schema_input_type=str | list[Block]),
]

SpokenBlock = TextBlock | DocumentBlock | SearchResultBlock


def joined(
    blocks: Sequence[SpokenBlock | ToolReferenceBlock | OtherBlock],
) -> str:
    """As other formats join the parts of a message."""
    return "\n".join(block.text for block in blocks if not isinstance(block, OtherBlock))
