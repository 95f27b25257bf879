"""/v1/conversations and their items. Knows no table and no response.

Source: https://platform.openai.com/docs/api-reference/conversations
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.openai.conversations.wire import (
    AddItems,
    ConversationRecord,
    CreateConversation,
    DeletedConversation,
    UpdateConversation,
)
from appliance.api.openai.responses.pages import ItemList, RequestedPage, item_list
from appliance.api.openai.responses.stored_items import shown_items, stored
from appliance.api.openai.responses.turn import store_of
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import NotFound
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.stored_responses.store import StoredConversation

_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


def conversation_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai", prefix="/v1/conversations")
    described = router.returns(ConversationRecord)

    @router.post("", responses=described)
    async def create_conversation(request: CreateConversation, caller: RequestCaller) -> Response:
        """A conversation, with its first items."""
        conversation = StoredConversation(
            id=f"conv_{secrets.token_hex(24)}",
            created_s=int(time.time()),
            metadata=_encode(request.metadata or {}),
        )
        items = stored(shown_items(request.items or []))
        await store_of(gateway).create_conversation(caller.id, conversation, items)
        return _shown(conversation)

    @router.get("/{conversation_id}", responses=described)
    async def retrieve_conversation(conversation_id: str, caller: RequestCaller) -> Response:
        """A conversation, without its items."""
        return _shown(await store_of(gateway).conversation(caller.id, conversation_id))

    @router.post("/{conversation_id}", responses=described)
    async def update_conversation(
        conversation_id: str, request: UpdateConversation, caller: RequestCaller
    ) -> Response:
        """Puts other metadata in the place of a conversation's."""
        metadata = _encode(request.metadata or {})
        store = store_of(gateway)
        return _shown(await store.set_metadata(caller.id, conversation_id, metadata))

    @router.delete("/{conversation_id}", responses=router.returns(DeletedConversation))
    async def delete_conversation(conversation_id: str, caller: RequestCaller) -> Response:
        """Deletes a conversation with its items; responses in it stay."""
        await store_of(gateway).delete_conversation(caller.id, conversation_id)
        return RecordResponse(DeletedConversation(id=conversation_id))

    _add_item_routes(router, gateway)
    return router


def _add_item_routes(router: FormatRouter, gateway: Gateway) -> None:
    @router.post("/{conversation_id}/items", responses=router.returns(ItemList))
    async def add_items(conversation_id: str, request: AddItems, caller: RequestCaller) -> Response:
        """Adds items at the end of a conversation."""
        items = shown_items(request.items)
        await store_of(gateway).add_items(caller.id, conversation_id, stored(items))
        return RecordResponse(item_list(items))

    @router.get("/{conversation_id}/items", responses=router.returns(ItemList))
    async def list_items(
        conversation_id: str, caller: RequestCaller, page: RequestedPage
    ) -> Response:
        """A conversation's items, the last ones first unless `order` is `asc`."""
        items = await store_of(gateway).items(caller.id, conversation_id)
        return RecordResponse(page.of([_decode(item.content) for item in items]))

    @router.get("/{conversation_id}/items/{item_id}", responses=router.returns(dict[str, Any]))
    async def retrieve_item(conversation_id: str, item_id: str, caller: RequestCaller) -> Response:
        """One item of a conversation."""
        items = await store_of(gateway).items(caller.id, conversation_id)
        content = next((item.content for item in items if item.id == item_id), None)
        if content is None:
            raise NotFound(f"There is no item with id '{item_id[:100]}' in the conversation.")
        return RecordResponse(msgspec.Raw(content))

    @router.delete(
        "/{conversation_id}/items/{item_id}", responses=router.returns(ConversationRecord)
    )
    async def delete_item(conversation_id: str, item_id: str, caller: RequestCaller) -> Response:
        """Deletes one item of a conversation."""
        store = store_of(gateway)
        return _shown(await store.delete_item(caller.id, conversation_id, item_id))


def _shown(conversation: StoredConversation) -> Response:
    return RecordResponse(
        ConversationRecord(
            id=conversation.id,
            created_at=conversation.created_s,
            metadata=_decode(conversation.metadata),
        )
    )
