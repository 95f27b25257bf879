"""The requests and records of /v1/conversations, field by field. Knows no store.

Source: https://platform.openai.com/docs/api-reference/conversations
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from appliance.api.fields.request import RequestModel
from appliance.api.openai.responses.items import Item

_MAX_ITEMS = 20  # at a time
_MAX_PAIRS = 16

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=_MAX_PAIRS),
]
NewItems = Annotated[list[Item], Field(max_length=_MAX_ITEMS, fail_fast=True)]


class CreateConversation(RequestModel):
    items: NewItems | None = None
    metadata: Metadata | None = None


class UpdateConversation(RequestModel):
    metadata: Metadata | None = None


class AddItems(RequestModel):
    items: NewItems


class ConversationRecord(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int
    metadata: Any


class DeletedConversation(msgspec.Struct, kw_only=True):
    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: bool = True
