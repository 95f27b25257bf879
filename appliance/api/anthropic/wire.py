"""The records of /v1/messages, field by field. Knows no request and no events.

Sources: https://docs.claude.com/en/api/messages and
https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from appliance.api.auto_route import AutoRecord


class TextContent(msgspec.Struct, kw_only=True, tag="text", tag_field="type"):
    text: str


class ThinkingContent(msgspec.Struct, kw_only=True, tag="thinking", tag_field="type"):
    thinking: str
    signature: str


class ToolUseContent(msgspec.Struct, kw_only=True, tag="tool_use", tag_field="type"):
    id: str
    name: str
    input: msgspec.Raw  # a JSON object, as the model wrote it


Content = TextContent | ThinkingContent | ToolUseContent


class OutputTokensDetails(msgspec.Struct):
    thinking_tokens: int


class MessageUsage(msgspec.Struct, kw_only=True):
    input_tokens: int  # that were computed: those from the cache are not among them
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputTokensDetails | UnsetType = UNSET  # once it has ended
    service_tier: Literal["standard"] | UnsetType = UNSET
    x_auto: AutoRecord | UnsetType = UNSET


class Message(msgspec.Struct, kw_only=True):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Content]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: MessageUsage


class EventDelta(msgspec.Struct, kw_only=True):
    """What any event adds, with the fields that it has."""

    type: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    partial_json: str | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET
    stop_sequence: str | UnsetType | None = UNSET


class MessageEvent(msgspec.Struct, kw_only=True):
    """Any event of the stream, with the fields that it has."""

    type: str
    message: Message | UnsetType = UNSET
    index: int | UnsetType = UNSET  # of the block
    content_block: Content | UnsetType = UNSET
    delta: EventDelta | UnsetType = UNSET
    usage: MessageUsage | UnsetType = UNSET


class TokenCount(msgspec.Struct):
    input_tokens: int


class AnthropicModel(msgspec.Struct, kw_only=True):
    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str  # RFC 3339
    max_input_tokens: int | None = None
    max_tokens: int | None = None  # of an answer
    lifecycle: Literal["active"] = "active"


class AnthropicModelPage(msgspec.Struct, kw_only=True):
    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None
