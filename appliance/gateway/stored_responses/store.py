"""What is kept of responses and conversations, and the seam to whoever keeps it.

Knows no wire format, no table and no file. Everything belongs to one caller: what is
another one's is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class StoredItem:
    id: str
    content: bytes  # JSON


@dataclass(frozen=True, kw_only=True)
class StoredResponse:
    """One turn: a response, and what its own request added."""

    id: str
    record: bytes  # JSON, with its output
    input_items: Sequence[StoredItem]
    previous_id: str | None = None  # of the response that it continues
    earlier_items: Sequence[StoredItem] = ()  # all that it continues, should that be gone by now
    conversation_id: str | None = None
    has_ended: bool = True  # False: `record` says what is true should it never end


@dataclass(frozen=True, kw_only=True)
class StoredConversation:
    id: str
    created_s: int  # since the epoch
    metadata: bytes  # JSON


class ResponseStore(Protocol):
    """Every method that waits may raise `StorageFailed` or one of its kinds."""

    async def add(self, owner: str, response: StoredResponse) -> None:
        """A response that has not ended. Returns when it is on disk."""

    def save(
        self, owner: str, response: StoredResponse, said: Sequence[StoredItem] | None = None
    ) -> None:
        """Its end; whoever asks from now on sees it. It is on disk within a second, and
        only logged where that fails. `said`: what its conversation grows by.
        """

    async def record(self, owner: str, response_id: str) -> bytes:
        """Raises `NotFound`."""

    async def history(self, owner: str, response_id: str) -> list[StoredResponse]:
        """The response and all that it continues, the first one first.

        Raises `NotFound`, and `BadRequest` where that is too much to be read again.
        """

    async def delete(self, owner: str, response_id: str) -> None:
        """From now on it is not there; it stays part of what continues it. Raises
        `NotFound`.
        """

    async def create_conversation(
        self, owner: str, conversation: StoredConversation, items: Sequence[StoredItem]
    ) -> None: ...

    async def conversation(self, owner: str, conversation_id: str) -> StoredConversation:
        """Raises `NotFound`."""

    async def set_metadata(
        self, owner: str, conversation_id: str, metadata: bytes
    ) -> StoredConversation:
        """Raises `NotFound`."""

    async def delete_conversation(self, owner: str, conversation_id: str) -> None:
        """With its items; responses stay. Raises `NotFound`."""

    async def items(self, owner: str, conversation_id: str) -> list[StoredItem]:
        """Raises `NotFound`, and `BadRequest` where that is too much to be read again."""

    async def add_items(
        self, owner: str, conversation_id: str, items: Sequence[StoredItem]
    ) -> None:
        """Raises `NotFound`."""

    async def delete_item(
        self, owner: str, conversation_id: str, item_id: str
    ) -> StoredConversation:
        """Raises `NotFound`."""
