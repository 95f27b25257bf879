"""Items as they are stored and shown: each with an id, its content in parts.

Knows no request, no response and no table.

Source: https://platform.openai.com/docs/api-reference/responses/input-items
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import TypeAdapter

from appliance.api.openai.responses.items import (
    CallItem,
    CallOutputItem,
    Item,
    MessageItem,
    ReasoningItem,
    TextPart,
)
from appliance.api.openai.responses.wire import OutputItem
from appliance.gateway.stored_responses.store import StoredItem

_encode = msgspec.json.Encoder().encode
_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])

StoredJson = dict[str, Any]  # an item, as it is shown


def shown_items(items: Sequence[Item]) -> list[StoredJson]:
    """Of what a client sent, with new ids."""
    return [_shown(item) for item in items]


def read_items(shown: Sequence[StoredJson]) -> list[Item]:
    """What `shown_items` gives, and a response's output, as a request may send them."""
    return _ITEMS.validate_python(shown)


def stored(shown: Sequence[StoredJson]) -> list[StoredItem]:
    return [StoredItem(id=item["id"], content=_encode(item)) for item in shown]


def stored_output(output: Sequence[OutputItem]) -> list[StoredItem]:
    return [StoredItem(id=item.id, content=_encode(item)) for item in output]


def _shown(item: Item) -> StoredJson:
    if isinstance(item, MessageItem):
        is_said_by_model = item.role == "assistant"
        return {
            "id": _id("msg"),
            "type": "message",
            "status": "completed",
            "role": item.role,
            "content": [_part(text, is_said_by_model) for text in _texts(item.content)],
        }
    if isinstance(item, CallItem):
        named = {} if item.namespace is None else {"namespace": item.namespace}
        return {
            "id": _id("fc"),
            "type": "function_call",
            "status": "completed",
            "call_id": item.call_id,
            "name": item.name,
            **named,
            "arguments": item.arguments,
        }
    if isinstance(item, CallOutputItem):
        parts = item.output
        return {
            "id": _id("fco"),
            "type": "function_call_output",
            "status": "completed",
            "call_id": item.call_id,
            "output": parts if isinstance(parts, str) else [_part(p.text, False) for p in parts],
        }
    return _shown_reasoning(item)


def _shown_reasoning(item: ReasoningItem) -> StoredJson:
    return {
        "id": _id("rs"),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": part.text} for part in item.summary or []],
        "content": [{"type": "reasoning_text", "text": part.text} for part in item.content or []],
    }


def _texts(content: str | Sequence[TextPart] | None) -> list[str]:
    if content is None:
        return []
    return [content] if isinstance(content, str) else [part.text for part in content]


def _part(text: str, is_said_by_model: bool) -> dict[str, Any]:
    if is_said_by_model:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}


def _id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"
